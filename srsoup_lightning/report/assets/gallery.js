// One state, drawn from the data that the page carries. What the data says is text: nothing here parses HTML.

const COLOURS = 6; // as many as gallery.css has
const MARKS = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
  "M-3.5-3.5h7v7h-7z",
  "M0-5 4.6 3.4h-9.2z",
  "M0-5 5 0 0 5-5 0z",
];
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const [everyPrompt, everyRun, everyReward] = [data.prompts, data.runs, data.rewards].map((list) => [...list.keys()]);
const state = {
  prompt: 0,
  seed: null,
  at: data.axes.map(() => 1 / data.axes.length),
  hidden: new Set(),
  across: 0, // the rewards on the chart's axes
  up: Math.min(1, data.rewards.length - 1),
};
const view = { preference: null, cards: [], chart: null };

// Elements

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const mark = (run, kind) =>
  draw("path", { d: MARKS[run % MARKS.length], class: `point ${kind} run-${run % COLOURS}` });

const swatch = (run) => draw("svg", { class: "swatch", viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark(run, ""));

function select(element, labels, values, chosen, choose) {
  element.replaceChildren(...labels.map((label, place) => make("option", { value: values[place] }, label)));
  element.value = chosen;
  element.onchange = () => choose(values[element.selectedIndex]);
  return element;
}

// Words

const formatter = (options) => new Intl.NumberFormat("en", options).format;
const fourDigits = formatter({ minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
const weighed = formatter({ maximumFractionDigits: 2 });
const counted = formatter({ maximumFractionDigits: 1 });
const written = (score) => (score === null ? "none" : fourDigits(score).replace("-", "−"));
const plural = (number, one, many) => `${counted(number)}\u00a0${counted(number) === "1" ? one : many}`;
const promptName = (text) => text || "(empty prompt)";

const described = (weights) =>
  data.axes.map((name, axis) => `${name}\u00a0${weighed(weights[axis])}`).join(", ");
const scored = ({ scores }) => data.rewards.map((name, reward) => `${name}\u00a0${written(scores[reward])}`).join(", ");

function alternative(picture) {
  const preference = picture.weights ? `for ${described(picture.weights)}` : "without a preference";
  const origin = `by ${data.runs[picture.run].name}, seed ${picture.seed}`;
  return `${promptName(prompt().text)}, ${preference}, ${origin}. Scores: ${scored(picture)}`;
}

function costs(cost) {
  if (!cost) return "cost unknown";
  const queries = Object.entries(cost.queries);
  const total = queries.reduce((sum, [, number]) => sum + number, 0);
  const each = queries.map(([name, number]) => `${counted(number)} ${name}`).join(", ");
  const parts = [
    plural(total, "query", "queries") + (queries.length > 1 && total > 0 ? ` (${each})` : ""),
    plural(cost.nfe, "network evaluation", "network evaluations"),
    `${counted(cost.seconds)}\u00a0s`,
    ...(cost.hits > 0 ? [plural(cost.hits, "hit", "hits")] : []),
    ...(cost.failures > 0 ? [plural(cost.failures, "failure", "failures")] : []),
  ];
  return `Per soup: ${parts.join(" · ")}`;
}

// What of the data is in view

const prompt = () => data.prompts[state.prompt];
const steered = () => prompt().pictures.filter((picture) => picture.weights);
const seeds = () => [...new Set(steered().map((picture) => picture.seed))].sort((a, b) => a - b);
const runs = () => everyRun.filter((run) => !state.hidden.has(run));
const pictures = (run) =>
  prompt().pictures.filter((picture) => picture.run === run && (!picture.weights || picture.seed === state.seed));
const distance = ({ weights }, at) => weights.reduce((sum, weight, axis) => sum + (weight - at[axis]) ** 2, 0);
const nearest = (front, at = state.at) =>
  front.reduce((best, picture) => (distance(picture, at) < distance(best, at) ? picture : best));

/** The preference nearest to a point that some run in view has a picture for. */
const snapped = (at) => (front().length > 0 ? nearest(front(), at).weights : at);

/** A picture for each preference that some run in view has one for, from the first reward to the last. */
function front() {
  const shown = runs().flatMap(pictures).filter((picture) => picture.weights);
  const distinct = [...new Map(shown.map((picture) => [picture.weights.join(), picture])).values()];
  return distinct.sort((a, b) => shown[0].weights.map((_, axis) => b.weights[axis] - a.weights[axis]).find(Boolean));
}

function range(reward) {
  const scores = prompt().pictures.map((picture) => picture.scores[reward]).filter((score) => score !== null);
  const [low, high] = scores.length > 0 ? [Math.min(...scores), Math.max(...scores)] : [null, null];
  return { low, high, share: (score) => (high > low ? (score - low) / (high - low) : 0.5) };
}

// The preference: a line between two rewards, a triangle and weights for three, weights for more

function preferenceControl() {
  const section = $("preference");
  const kinds = { 0: [], 1: [], 2: [line], 3: [triangle, weights] }[data.axes.length] ?? [weights];
  const parts = kinds.map((kind) => kind());
  section.replaceChildren(...parts.map((part) => part.element));
  section.hidden = parts.length === 0;
  $("main").classList.toggle("sideways", data.axes.length > 2);
  return {
    show: () => parts.forEach((part) => part.show()),
    setFront: (points) => parts.forEach((part) => part.setFront?.(points)),
  };
}

function rangeInput(label, change, step = 0.01) {
  const input = make("input", { type: "range", min: 0, max: 1, step, ariaLabel: label });
  input.oninput = () => change(input.valueAsNumber);
  const show = (value) => {
    input.value = value;
    input.ariaValueText = described(state.at);
  };
  return { input, show };
}

const quietOutput = () => make("output", { ariaLive: "off" }); // the slider itself says it

function line() {
  const label = `Preference from ${data.axes[0]} to ${data.axes[1]}`;
  const { input, show } = rangeInput(label, (value) => moveTo(snapped([1 - value, value])), "any");
  const ends = data.axes.map(quietOutput);
  const ticks = make("div");
  const labels = data.axes.map((name, axis) => make("div", { className: "end" }, `${name} `, ends[axis]));
  const track = make("div", { className: "track" }, ticks, input);
  return {
    element: make("div", { className: "line" }, labels[0], track, labels[1]),
    show: () => {
      show(state.at[1]);
      ends.forEach((end, axis) => (end.value = weighed(state.at[axis])));
    },
    setFront: (points) => {
      ticks.replaceChildren(...points.map(() => make("span", { className: "tick" })));
      // The middle of the thumb stays half of its 22 pixels away from either end.
      points.forEach((point, place) => (ticks.children[place].style.left = `calc(11px + ${point[1]} * (100% - 22px))`));
    },
  };
}

function weights() {
  const rows = data.axes.map((name, axis) => ({
    ...rangeInput(`Weight of ${name}`, (value) => moveTo(reweighted(axis, value))),
    output: quietOutput(),
  }));
  const cells = rows.flatMap(({ input, output }, axis) => [make("span", {}, data.axes[axis]), input, output]);
  const show = () =>
    rows.forEach((row, axis) => {
      row.show(state.at[axis]);
      row.output.value = weighed(state.at[axis]);
    });
  return { element: make("div", { className: "weights" }, ...cells), show };
}

/** The present preference with one weight set and the others, in their proportions, making up the rest. */
function reweighted(axis, value) {
  const others = 1 - state.at[axis];
  return state.at.map((weight, other) => {
    if (other === axis) return value;
    return others > 1e-9 ? (weight / others) * (1 - value) : (1 - value) / (state.at.length - 1);
  });
}

function triangle() {
  const corners = [[100, 14], [190, 170], [10, 170]];
  const place = (at) => [0, 1].map((side) => at.reduce((sum, weight, axis) => sum + weight * corners[axis][side], 0));
  const dots = draw("g");
  const at = draw("circle", { class: "at", r: 8 });
  const labels = data.axes.map((name, axis) => {
    const [x, y, anchor] = [[100, 6, "middle"], [196, 184, "end"], [4, 184, "start"]][axis];
    return draw("text", { x, y, "text-anchor": anchor }, name);
  });
  const face = draw("path", { class: "face", d: `M${corners.join("L")}Z` });
  // The sliders below it say and do the same for keyboards and screen readers.
  const box = { class: "triangle", viewBox: "0 -4 200 194", "aria-hidden": "true" };
  const element = draw("svg", box, face, dots, at, ...labels);
  const drag = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(element.getScreenCTM().inverse());
    const first = (corners[1][1] - y) / (corners[1][1] - corners[0][1]);
    const second = (x - corners[2][0]) / (corners[1][0] - corners[2][0]) - first / 2;
    const inside = [first, second, 1 - first - second].map((weight) => Math.max(weight, 0));
    const sum = inside.reduce((total, weight) => total + weight);
    moveTo(snapped(inside.map((weight) => weight / sum)));
  };
  element.onpointerdown = (event) => {
    element.setPointerCapture(event.pointerId);
    drag(event);
  };
  element.onpointermove = (event) => element.hasPointerCapture(event.pointerId) && drag(event);
  return {
    element,
    show: () => {
      const [x, y] = place(state.at);
      at.setAttribute("cx", x);
      at.setAttribute("cy", y);
    },
    setFront: (points) => {
      const dot = ([cx, cy]) => draw("circle", { class: "dot", r: 2.5, cx, cy });
      dots.replaceChildren(...points.map(place).map(dot));
    },
  };
}

// A run's card

function image(picture, properties) {
  const { source, width, height } = data.images[picture.image];
  return make("img", { width, height, src: source, ...properties });
}

function card(run) {
  const mine = pictures(run);
  const moved = mine.filter((picture) => picture.weights);
  const loose = mine.filter((picture) => !picture.weights);
  const heading = make("h3", { hidden: data.runs.length === 1 }, swatch(run), data.runs[run].name);
  const element = make("article", { className: "card" }, heading);
  const shown = moved.length > 0 ? stage(moved) : null;
  if (shown) element.append(shown.figure);
  if (loose.length > 0) element.append(make("div", { className: "loose" }, ...loose.map(tile)));
  if (mine.length === 0) element.append(make("p", { className: "none" }, "No picture of this prompt with this seed"));
  return { element, show: () => shown?.show() };
}

/** The pictures of a run's front, one of them to be seen, with a strip of them all. */
function stage(front) {
  const sizes = prompt().pictures.map((picture) => data.images[picture.image]);
  const [width, height] = ["width", "height"].map((side) => Math.max(...sizes.map((size) => size[side])));
  const scores = scoreList();
  const madeFor = make("p", { className: "made-for" });
  // Decoded when first seen, and within the same frame.
  const large = front.map((picture) => image(picture, { alt: alternative(picture), decoding: "sync" }));
  const small = front.map((picture) =>
    image(picture, { alt: "", decoding: "async", onclick: () => moveTo(picture.weights) }),
  );
  const enlarge = make("button", { className: "enlarge", type: "button", title: "Full size" }, "⤢");
  enlarge.ariaLabel = `Full size of the picture by ${data.runs[front[0].run].name}`;
  const frame = make("div", { className: "frame" }, ...large, enlarge);
  frame.onclick = () => openLarge(() => nearest(front));
  frame.style.aspectRatio = `${width} / ${height}`;
  const strip = make("div", { className: "strip", ariaHidden: "true", hidden: front.length < 2 }, ...small);
  arrange(strip, front);
  let current = null;
  const show = () => {
    const next = nearest(front);
    if (next !== current) {
      for (const images of [large, small]) {
        images.forEach((element, place) => element.classList.toggle("current", front[place] === next));
      }
      madeFor.textContent = `made for ${described(next.weights)}`;
      scores.show(next);
      current = next;
    }
    return current;
  };
  const caption = make("figcaption", {}, madeFor, scores.element);
  return { figure: make("figure", {}, frame, caption, strip), show };
}

/** Put the thumbnails of a front where the preferences are: in a triangle for a lattice of three rewards, else in rows. */
function arrange(strip, front) {
  const columns = Math.ceil(front.length / Math.ceil(front.length / 12)); // rows of one length, 12 at most
  strip.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 3.5rem))`;
  const rows = Object.values(Object.groupBy(front.keys(), (place) => `row ${front[place].weights[0]}`));
  const longest = Math.max(...rows.map((row) => row.length));
  if (data.axes.length !== 3 || longest !== rows.length || longest > 12) return;
  strip.style.gridTemplateColumns = `repeat(${2 * longest}, minmax(0, 1.75rem))`;
  rows.forEach((row, above) => {
    row.sort((one, other) => front[one].weights[1] - front[other].weights[1]);
    row.forEach((place, before) => {
      strip.children[place].style.gridArea = `${above + 1} / ${longest - row.length + 1 + 2 * before} / auto / span 2`;
    });
  });
}

function tile(picture) {
  const properties = { alt: alternative(picture), decoding: "async", loading: "lazy", onclick: () => openLarge(() => picture) };
  return make("figure", {}, image(picture, properties), make("figcaption", {}, scored(picture)));
}

/** Scores as numbers, and as bars from the lowest to the highest score of the prompt's pictures. */
function scoreList() {
  const rows = data.rewards.map((name, reward) => ({
    name: make("dt", {}, name),
    number: make("dd"),
    bar: make("span"),
    share: range(reward).share,
  }));
  const failed = make("dd", { className: "failed" });
  const track = (bar) => make("dd", { className: "bar", ariaHidden: "true" }, bar);
  const cells = rows.flatMap(({ name, number, bar }) => [name, number, track(bar)]);
  const show = (picture) => {
    rows.forEach(({ number, bar, share }, reward) => {
      const score = picture.scores[reward];
      number.textContent = written(score);
      bar.style.transform = `scaleX(${score === null ? 0 : share(score)})`;
    });
    failed.hidden = picture.failed.length === 0;
    failed.textContent = `No score from ${picture.failed.join(", ")}: the worst of its soup stands.`;
  };
  return { element: make("dl", { className: "scores" }, ...cells, failed), show };
}

// The chart

function chart() {
  const [across, up] = [range(state.across), range(state.up)];
  const place = ({ scores }) => [52 + 258 * across.share(scores[state.across]), 226 - 196 * up.share(scores[state.up])];
  const points = new Map();
  const name = `Scores of this prompt's pictures: ${spanned(state.across, across)}; ${spanned(state.up, up)}`;
  const svg = draw("svg", { viewBox: "0 0 320 262", role: "img", "aria-label": name });
  svg.append(draw("path", { class: "axis", d: "M42 14V236H316" }));
  for (const run of runs()) {
    const mine = pictures(run).filter(({ scores }) => scores[state.across] !== null && scores[state.up] !== null);
    const path = mine.filter((picture) => picture.weights).map(place);
    // Only between two rewards do pictures have an order along the front.
    if (data.axes.length === 2 && path.length > 1) {
      svg.append(draw("path", { class: `path run-${run % COLOURS}`, d: `M${path.join("L")}` }));
    }
    for (const picture of mine) {
      const shape = point(picture);
      points.set(picture, shape);
      svg.append(draw("g", { transform: `translate(${place(picture)})` }, shape));
    }
  }
  svg.append(...chartWords(across, up));
  $("plot").replaceChildren(svg);
  return {
    show: (current) => points.forEach((shape, picture) => shape.classList.toggle("current", current.includes(picture))),
  };
}

function point(picture) {
  const shape = mark(picture.run, picture.weights ? "" : "loose-point");
  shape.append(draw("title", {}, alternative(picture)));
  if (picture.weights) shape.onclick = () => moveTo(picture.weights);
  return shape;
}

function chartWords(across, up) {
  const word = (x, y, anchor, text) => draw("text", { x, y, "text-anchor": anchor }, text);
  return [
    word(52, 250, "middle", written(across.low)),
    word(310, 250, "end", written(across.high)),
    word(181, 250, "middle", `${data.rewards[state.across]} →`),
    word(38, 230, "end", written(up.low)),
    word(38, 34, "end", written(up.high)),
    word(0, 8, "start", `${data.rewards[state.up]} ↑`),
  ];
}

const spanned = (reward, { low, high }) => `${data.rewards[reward]} from ${written(low)} to ${written(high)}`;

// Changes

function moveTo(at) {
  state.at = at;
  show();
}

/** Show what the preference asks for: all that a moving slider changes. */
function show() {
  view.preference.show();
  view.chart.show(view.cards.map((card) => card.show()));
  if ($("large").open) showLarge();
}

/** Change the state and lay out what is in view anew. */
function change(changes) {
  Object.assign(state, changes);
  const known = seeds();
  if (!known.includes(state.seed)) state.seed = known[0] ?? null;
  const name = promptName(prompt().text);
  $("prompt").textContent = name;
  $("prompt").classList.toggle("long", name.length > 80);
  $("prompt-select").value = state.prompt;
  $("seed-choice").hidden = known.length < 2;
  select($("seed-select"), known, known, state.seed, (seed) => change({ seed }));
  view.cards = runs().map(card);
  $("cards").replaceChildren(...view.cards.map(({ element }) => element));
  if (data.axes.length === 2) state.at = snapped(state.at);
  view.preference.setFront(front().map((picture) => picture.weights));
  view.chart = chart();
  show();
}

/** The element `step` places after the given one, or the last that there is that way. */
const beside = (list, element, step) => list[Math.min(Math.max(list.indexOf(element) + step, 0), list.length - 1)];

function stepAlong(step) {
  const points = front();
  if (points.length === 0) return;
  moveTo(beside(points, nearest(points), step).weights);
  // A slider that has the focus says it itself.
  if (!document.activeElement.matches("input")) $("status").textContent = described(state.at);
}

addEventListener("keydown", (event) => {
  const pages = event.target.matches(".line input") ? { PageDown: -1, PageUp: 1 } : {}; // a tenth may be too little
  const sideways = { ArrowLeft: -1, ArrowRight: 1, ...pages }[event.key];
  const upright = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const choices = event.shiftKey ? seeds() : everyPrompt;
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select")) return;
  if (sideways && !event.target.matches(".weights input")) stepAlong(sideways);
  else if (upright && choices.length > 1) {
    const key = event.shiftKey ? "seed" : "prompt";
    change({ [key]: beside(choices, state[key], upright) });
  } else return;
  event.preventDefault();
});

// The page

function method({ name, cost }, run) {
  const box = make("input", { type: "checkbox", checked: true, hidden: data.runs.length === 1 });
  box.onchange = () => {
    state.hidden[box.checked ? "delete" : "add"](run);
    change({});
  };
  return make("li", {}, make("label", {}, box, swatch(run), name), make("p", {}, costs(cost)));
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light mode" : "Dark mode";
  $("theme").onclick = () => setTheme(!dark);
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
$("crisp").checked = data.crisp;
$("crisp").onchange = () => $("main").classList.toggle("crisp", $("crisp").checked);
$("crisp").onchange();
$("methods").append(...data.runs.map(method));
$("prompt-choice").hidden = data.prompts.length < 2;
$("chart").hidden = data.rewards.length < 2;
$("chart-choices").hidden = data.rewards.length < 3;
const texts = data.prompts.map(({ text }) => promptName(text));
select($("prompt-select"), texts, everyPrompt, state.prompt, (prompt) => change({ prompt }));
select($("across"), data.rewards, everyReward, state.across, (across) => change({ across }));
select($("up"), data.rewards, everyReward, state.up, (up) => change({ up }));
view.preference = preferenceControl();
change({});
if (data.axes.length === 3) moveTo(snapped(state.at));
