// A picture by itself, as large as the window allows, and a file of it with its numbers.

const SIDE = 512; // pixels, of the longer side of a saved picture at least

/** Open the picture that a function returns. It is asked again whenever the preference changes. */
function openLarge(chosen) {
  view.large = chosen;
  $("large").showModal();
  showLarge();
}

function showLarge() {
  const picture = view.large();
  const { width, height } = data.images[picture.image];
  const shown = image(picture, { alt: alternative(picture), decoding: "sync" });
  shown.style.width = `min(90vw, 68rem, ${width / height} * (100dvh - 15rem))`;
  $("large-picture").replaceChildren(shown);
  $("large-numbers").replaceChildren(...numbers(picture).map((line) => make("p", {}, line)));
  $("large-save").onclick = () => save(picture, shown);
}

/** What is written below a picture. */
const numbers = (picture) => [
  promptName(prompt().text),
  `${data.runs[picture.run].name}, seed ${picture.seed}`,
  ...(picture.weights ? [`made for ${described(picture.weights)}`] : []),
  `scores: ${scored(picture)}`,
  ...(picture.failed.length > 0 ? [`no score from ${picture.failed.join(", ")}: the worst of its soup stands`] : []),
];

async function save(picture, shown) {
  await shown.decode();
  const scale = Math.max(1, Math.ceil(SIDE / Math.max(shown.naturalWidth, shown.naturalHeight)));
  const [width, height] = [shown.naturalWidth * scale, shown.naturalHeight * scale];
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d");
  const [size, font] = [16, '16px system-ui, "Segoe UI", Roboto, Arial, sans-serif'];
  pen.font = font;
  const lines = numbers(picture).flatMap((line) => wrapped(pen, line, width - size));
  canvas.height = height + (lines.length + 1) * size * 1.4;
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, width, canvas.height);
  pen.imageSmoothingEnabled = !$("crisp").checked;
  pen.drawImage(shown, 0, 0, width, height);
  Object.assign(pen, { font, fillStyle: "#1f1e1b", textBaseline: "top" });
  lines.forEach((line, place) => pen.fillText(line, size / 2, height + (place + 0.5) * size * 1.4));
  const file = URL.createObjectURL(await new Promise((done) => canvas.toBlob(done, "image/png")));
  const words = [prompt().text, data.runs[picture.run].name, picture.seed, ...(picture.weights ?? [])].join("-");
  make("a", { href: file, download: `${words.replace(/[^\p{L}\p{N}.]+/gu, "-").slice(0, 100)}.png` }).click();
  setTimeout(() => URL.revokeObjectURL(file), 60_000);
}

/** A text in lines that fit a width. */
function wrapped(pen, text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (pen.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

$("large").onclick = ({ target }) => target === $("large") && $("large").close(); // beside the picture
