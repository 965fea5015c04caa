"use strict";
// What moves on the page of `glc report`. One object, `state`, says what is seen; each show...() draws a part of it.

const { metrics, pictures, curves, mean, usual } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { picture: 0, point: usual, left: "original", right: "GLC", split: 50, scale: 1, u: 0.5, v: 0.5 };
const FARTHEST = 32; // times the size that fits
const compare = $("compare"), stage = $("stage"), divider = $("divider");

function element(name, attributes = {}, ...children) {
  const made = name in { svg: 1, g: 1, path: 1, line: 1, text: 1, circle: 1 }
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const picture = () => pictures[state.picture];
const codecs = () => Object.keys(picture().points[0].items);
const itemOf = (codec) => (codec === "original" ? null : picture().items[picture().points[state.point].items[codec]]);
const titleOf = (codec) => (codec === "original" ? "original" : `${codec} ${itemOf(codec).setting}`);
const sizeOf = (item) => `${item.bytes.toLocaleString("en")} bytes`;
const number = (value, metric) => (value === null ? "–" : value.toFixed(metric.name === "psnr" ? 2 : 4));

// -- bits: a map of numbers, drawn as one pixel a position and stretched by the page --------------------------------

const RAMP = ["#000004", "#280b54", "#65156e", "#9f2a63", "#d44842", "#f57d15", "#fac127", "#fcffa4"]; // inferno
const ramp = RAMP.map((hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)));

function colour(share) {
  const place = clamp(share, 0, 1) * (ramp.length - 1), k = Math.min(Math.floor(place), ramp.length - 2);
  return ramp[k].map((low, c) => low + (place - k) * (ramp[k + 1][c] - low));
}

// One scale for all levels of a picture, so that they can be compared; a few outliers may lie beyond its end.
function mostBits(shown) {
  const all = shown.items.flatMap((item) => (item.bits || []).flat()).sort((a, b) => a - b);
  return all[Math.floor(0.99 * (all.length - 1))];
}

function bitCanvas(item, shown) {
  const rows = item.bits.length, columns = item.bits[0].length, most = mostBits(shown) || 1;
  const canvas = element("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  item.bits.flat().forEach((bits, i) => image.data.set([...colour(bits / most), 255], 4 * i));
  context.putImageData(image, 0, 0);
  canvas.style.width = `${(100 * columns * shown.position) / shown.width}%`; // may reach into the padding
  canvas.style.height = `${(100 * rows * shown.position) / shown.height}%`;
  return canvas;
}

// -- pictures -------------------------------------------------------------------------------------------------------

function fillLayer(layer, codec) {
  const item = itemOf(codec), shown = picture();
  const words = item ? `${shown.name} as ${titleOf(codec)}, ${sizeOf(item)}` : `${shown.name}, original`;
  layer.replaceChildren(element("img", { src: item ? item.src : shown.src, alt: words, draggable: "false" }));
  if (item && item.bits) layer.append(bitCanvas(item, shown));
}

function showStage() {
  const { width, height } = picture();
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.width = `min(100%, ${(80 * width) / height}vh)`; // never higher than the window
  const [right, left] = stage.querySelectorAll(".layer");
  fillLayer(left, state.left);
  fillLayer(right, state.right);
  $("left-tag").textContent = titleOf(state.left);
  $("right-tag").textContent = titleOf(state.right);
  showView();
}

function showPanes() {
  const target = itemOf("GLC").bytes;
  $("panes").replaceChildren(...["original", ...codecs()].map((codec) => {
    const item = itemOf(codec), layer = element("div", { class: "layer" }), view = element("div", { class: "view" }, layer);
    view.style.aspectRatio = `${picture().width} / ${picture().height}`;
    fillLayer(layer, codec);
    movable(view);
    const caption = element("figcaption", {}, element("strong", {}, titleOf(codec)));
    if (item) {
      const times = item.bytes / target;
      if (times > 1.1) caption.append(element("span", { class: "badge" }, `${times.toFixed(1)} × the bytes`));
      caption.append(element("br"), `${sizeOf(item)} · ${item.bpp.toFixed(4)} bpp`, element("br"));
      caption.append(metrics.map((m) => `${m.label.replace(", dB", "")} ${number(item[m.name], m)}`).join(" · "));
    } else {
      caption.append(element("br"), `${picture().width} × ${picture().height} pixels`);
    }
    return element("figure", {}, view, caption);
  }));
}

function showLegend() {
  const on = $("bits").checked, item = itemOf("GLC");
  compare.classList.toggle("bits", on);
  $("legend").hidden = !on;
  const sum = item.bits.flat().reduce((a, b) => a + b, 0) / 8;
  const sections = Object.entries(item.sections).map(([name, bytes]) => `${name} ${bytes}`).join(", ");
  $("most").textContent = `${mostBits(picture()).toFixed(1)} bits or more a position of ${picture().position} × ${picture().position} pixels`;
  $("sum").textContent = `GLC ${item.setting}: the map adds up to ${Math.round(sum).toLocaleString("en")} bytes; the file has ${sizeOf(item)}: ${sections}.`;
  $("here").textContent = "";
}

function showAll() {
  for (const side of ["left", "right"]) {
    const options = ["original", ...codecs()].map((codec) => element("option", { value: codec }, titleOf(codec)));
    $(side).replaceChildren(...options);
    $(side).value = state[side];
  }
  showStage();
  showPanes();
  showLegend();
}

// -- one view for all -----------------------------------------------------------------------------------------------

// (u, v) in [0, 1] is what lies in the middle of every view.
function showView() {
  const half = 0.5 / state.scale;
  state.u = clamp(state.u, half, 1 - half);
  state.v = clamp(state.v, half, 1 - half);
  compare.style.setProperty("--s", state.scale);
  compare.style.setProperty("--x", `${100 * (0.5 - state.u * state.scale)}%`);
  compare.style.setProperty("--y", `${100 * (0.5 - state.v * state.scale)}%`);
  compare.style.setProperty("--split", `${state.split}%`);
  compare.classList.toggle("zoomed", state.scale > 1);
  compare.classList.toggle("pixels", (state.scale * stage.clientWidth) / picture().width >= 3);
  $("factor").textContent = `${Number(state.scale.toPrecision(3))}×`;
  divider.setAttribute("aria-valuenow", Math.round(state.split));
  divider.setAttribute("aria-valuetext", `${Math.round(state.split)} % ${titleOf(state.left)}, the rest ${titleOf(state.right)}`);
}

const where = (view, event) => {
  const box = view.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
};

function zoom(factor, at = { x: 0.5, y: 0.5 }) {
  const before = state.scale;
  state.scale = clamp(before * factor, 1, FARTHEST);
  state.u += (at.x - 0.5) * (1 / before - 1 / state.scale);
  state.v += (at.y - 0.5) * (1 / before - 1 / state.scale);
  showView();
}

function pan(x, y) {
  state.u -= x / state.scale;
  state.v -= y / state.scale;
  showView();
}

function splitAt(percent) {
  state.split = clamp(percent, 0, 100);
  showView();
}

// Mouse, pen and touch on a view: one pointer pans, two pinch; on the stage one may hold the divider.
function movable(view) {
  const held = new Map();
  let dividing = false;
  view.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    view.setPointerCapture(event.pointerId);
    held.set(event.pointerId, where(view, event));
    dividing = view === stage && held.size === 1 && (divider.contains(event.target) || state.scale === 1);
    if (dividing) splitAt(100 * where(view, event).x);
  });
  view.addEventListener("pointermove", (event) => {
    const at = where(view, event), before = held.get(event.pointerId);
    if (!before) return tellBits(at);
    held.set(event.pointerId, at);
    if (held.size === 2) {
      const [other] = [...held].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = (a) => Math.hypot((a.x - other.x) * view.clientWidth, (a.y - other.y) * view.clientHeight) || 1;
      pan((at.x - before.x) / 2, (at.y - before.y) / 2);
      zoom(apart(at) / apart(before), { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    } else if (dividing) splitAt(100 * at.x);
    else pan(at.x - before.x, at.y - before.y);
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => held.delete(event.pointerId));
  view.addEventListener("dblclick", (event) => zoom(2, where(view, event)));
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.01), where(view, event));
  }, { passive: false });
}

function tellBits(at) {
  const shown = picture(), { bits } = itemOf("GLC");
  const x = (state.u + (at.x - 0.5) / state.scale) * shown.width, y = (state.v + (at.y - 0.5) / state.scale) * shown.height;
  const row = Math.floor(y / shown.position), column = Math.floor(x / shown.position);
  if (bits[row]?.[column] === undefined) return;
  $("here").textContent = `Row ${row}, column ${column}: ${bits[row][column].toFixed(1)} bits.`;
}

divider.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  event.stopPropagation();
  splitAt(state.split + steps[event.key] * (event.shiftKey ? 10 : 1));
});

stage.addEventListener("keydown", (event) => {
  const does = {
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(0),
    ArrowLeft: () => pan(0.1, 0), ArrowRight: () => pan(-0.1, 0), ArrowUp: () => pan(0, 0.1), ArrowDown: () => pan(0, -0.1),
  }[event.key];
  if (!does || event.ctrlKey || event.altKey || event.metaKey || (event.key.startsWith("Arrow") && state.scale === 1)) return;
  event.preventDefault();
  does();
});

$("larger").onclick = () => zoom(1.5);
$("smaller").onclick = () => zoom(1 / 1.5);
$("fit").onclick = () => zoom(0);
$("bits").onchange = showLegend;
for (const side of ["left", "right"]) $(side).onchange = () => { state[side] = $(side).value; showStage(); };
new ResizeObserver(showView).observe(stage);

function choices(id, all, chosen, choose) {
  $(id).replaceChildren(...all.map((content, k) => {
    const input = element("input", { type: "radio", name: id });
    input.checked = k === chosen;
    input.onchange = () => choose(k);
    return element("label", {}, input, element("span", {}, ...content));
  }));
}

function showPoints() {
  choices("points", picture().points.map(({ label }) => [label]), state.point, (k) => { state.point = k; showAll(); });
}

if (pictures.length > 1) {
  const thumbs = pictures.map(({ src, name }) => [element("img", { src, alt: "" }), name]);
  choices("pictures", thumbs, 0, (k) => {
    Object.assign(state, { picture: k, scale: 1 });
    showPoints();
    showAll();
  });
}

// -- charts ---------------------------------------------------------------------------------------------------------

// Outlines around (0, 0): a series is told by its shape as well as by its colour.
const MARKS = ["M0-6A6 6 0 1 1 0 6A6 6 0 1 1 0-6Z", "M-5-5H5V5H-5Z", "M0-7 6.5 5H-6.5Z", "M0-7 7 0 0 7-7 0Z", "M0 7 6.5-5H-6.5Z"];
const measured = codecs().map((name) => ({ name, rows: mean.filter((row) => row.codec === name), label: (row) => `${name}, ${row.setting}` }));
const read = curves.map((curve) => ({
  name: curve.name,
  rows: curve.bpp.map((bpp, k) => ({ bpp, ...Object.fromEntries(metrics.map((m) => [m.name, curve[m.name]?.[k] ?? null])) })),
  label: () => curve.name,
}));
const series = [...measured, ...read].map((one, k) => ({ ...one, style: `k${k % 8}`, mark: k % MARKS.length, dash: k < measured.length ? "" : "5 4" }));

function markOf(one, x, y) {
  return element("path", { d: MARKS[one.mark], class: one.style, fill: "currentColor", transform: `translate(${x} ${y})` });
}

function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const count = Math.floor(high / step) - Math.ceil(low / step) + 1;
  return Array.from({ length: count }, (_, k) => Number(((Math.ceil(low / step) + k) * step).toPrecision(6)));
}

function logTicks(low, high) {
  const all = (parts) => [-4, -3, -2, -1, 0, 1, 2].flatMap((p) => parts.map((k) => Number((k * 10 ** p).toPrecision(3)))).filter((t) => t >= low && t <= high);
  return [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]].map(all).find((found) => found.length > 2) || all([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8]);
}

function chart(metric) {
  const points = series.flatMap((one) => one.rows.filter((row) => row[metric.name] !== null).map((row) => ({ one, row, value: row[metric.name] })));
  const W = clamp(document.documentElement.clientWidth - 54, 280, 480), H = 0.65 * W, edge = { left: 52, right: 14, top: 12, bottom: 40 };
  const heading = element("h3", {}, metric.label, " ", element("small", {}, metric.higher ? "higher is better" : "lower is better"));
  const frame = element("figure", { class: "chart" }, heading);
  if (!points.length) return element("figure", { class: "chart" }, heading, element("p", { class: "hint" }, "No value at these sizes."));
  const range = (values, share) => {
    const low = Math.min(...values), high = Math.max(...values), room = (high - low) * share || Math.abs(high) * share || share;
    return [low - room, high + room];
  };
  const [x0, x1] = range(points.map(({ row }) => Math.log10(row.bpp)), 0.06), [y0, y1] = range(points.map(({ value }) => value), 0.1);
  const X = (bpp) => edge.left + ((Math.log10(bpp) - x0) / (x1 - x0)) * (W - edge.left - edge.right);
  const Y = (value) => H - edge.bottom - ((value - y0) / (y1 - y0)) * (H - edge.top - edge.bottom);

  const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": `${metric.label} against bits per pixel; the numbers are in the tables below` });
  for (const t of ticks(y0, y1)) {
    svg.append(element("line", { class: "grid", x1: edge.left, x2: W - edge.right, y1: Y(t), y2: Y(t) }));
    svg.append(element("text", { x: edge.left - 6, y: Y(t) + 4, "text-anchor": "end" }, String(t)));
  }
  let free = edge.left; // where the next label may begin
  for (const t of logTicks(10 ** x0, 10 ** x1)) {
    svg.append(element("line", { class: "grid", x1: X(t), x2: X(t), y1: edge.top, y2: H - edge.bottom }));
    const half = 3.5 * String(t).length;
    if (X(t) - half < free || X(t) + half > W) continue;
    free = X(t) + half + 8;
    svg.append(element("text", { x: X(t), y: H - edge.bottom + 16, "text-anchor": "middle" }, String(t)));
  }
  svg.append(element("text", { x: (edge.left + W - edge.right) / 2, y: H - 6, "text-anchor": "middle" }, "bits per pixel"));
  for (const one of series) {
    const own = points.filter((point) => point.one === one).sort((a, b) => a.row.bpp - b.row.bpp);
    const line = own.map(({ row, value }, k) => `${k ? "L" : "M"}${X(row.bpp)} ${Y(value)}`).join("");
    if (own.length > 1) svg.append(element("path", { d: line, class: `line ${one.style}`, stroke: "currentColor", "stroke-dasharray": one.dash }));
    svg.append(...own.map(({ row, value }) => markOf(one, X(row.bpp), Y(value))));
  }

  points.sort((a, b) => a.row.bpp - b.row.bpp);
  const tip = element("div", { class: "tip", role: "status" }), ring = element("circle", { class: "chosen", r: 10, visibility: "hidden" });
  let chosen = -1;
  svg.append(ring);
  const choose = (k) => {
    chosen = k;
    const { one, row, value } = points[k], x = X(row.bpp), y = Y(value), box = svg.getBoundingClientRect(), unit = box.width / W;
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.setAttribute("visibility", "visible");
    tip.replaceChildren(one.label(row), element("br"), `${row.bpp.toFixed(4)} bpp · ${number(value, metric)}`);
    const half = tip.offsetWidth / 2, outer = frame.getBoundingClientRect();
    tip.style.left = `${clamp(box.left - outer.left + x * unit, half, frame.clientWidth - half)}px`;
    tip.style.top = `${box.top - outer.top + y * unit}px`;
  };
  const leave = () => { chosen = -1; ring.setAttribute("visibility", "hidden"); tip.replaceChildren(); };
  const nearest = (event) => {
    const at = where(svg, event);
    const far = ({ row, value }) => Math.hypot(X(row.bpp) - at.x * W, Y(value) - at.y * H);
    choose(points.reduce((best, point, k) => (far(point) < far(points[best]) ? k : best), 0));
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step) return;
    event.preventDefault();
    choose(chosen < 0 ? (step > 0 ? 0 : points.length - 1) : (chosen + step + points.length) % points.length);
  });
  frame.append(svg, tip);
  return frame;
}

$("series").append(...series.map((one) => element("li", {}, element("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, markOf(one, 0, 0)), one.name)));
$("charts").append(...metrics.map(chart));
document.querySelector(".ramp").style.background = `linear-gradient(to right, ${RAMP.join(", ")})`;
movable(stage);
showPoints();
showAll();
