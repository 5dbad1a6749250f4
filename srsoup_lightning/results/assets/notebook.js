function (id) {
  "use strict";
  const root = document.getElementById(id);
  const strip = root.querySelector("[data-strip]");
  const figures = [...strip.querySelectorAll("[data-picture]")];
  if (figures.length < 2) return;

  const make = (tag, style) => Object.assign(document.createElement(tag), { style });
  const view = make("div", "display:flex;flex-wrap:wrap;gap:14px;align-items:center;margin:0 0 10px");
  const picture = make("img", "width:min(288px,100%)");
  const side = make("div", "flex:1 1 220px;max-width:360px");
  const caption = make("div", "");
  const slider = Object.assign(make("input", "width:100%;margin:0 0 6px;box-sizing:border-box"), {
    type: "range", min: 0, max: figures.length - 1, step: 1, value: 0, ariaLabel: "Preference",
  });

  const show = (index) => {
    slider.value = index;
    figures.forEach((figure, each) => { figure.style.outline = each === index ? "2px solid #3b82f6" : "none"; });
    const chosen = figures[index].querySelector("img");
    picture.src = chosen.src;
    picture.alt = chosen.alt;
    picture.style.imageRendering = chosen.style.imageRendering;
    caption.replaceChildren(...figures[index].querySelector("figcaption").cloneNode(true).childNodes);
    slider.ariaValueText = caption.innerText;
    const { offsetLeft, offsetWidth } = figures[index];
    strip.scrollLeft = offsetLeft - strip.offsetLeft - (strip.clientWidth - offsetWidth) / 2;
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  figures.forEach((figure, index) => {
    figure.style.cursor = "pointer";
    figure.addEventListener("click", () => show(index));
  });
  side.append(slider, caption);
  view.append(picture, side);
  root.insertBefore(view, strip);
  show(0);
}
