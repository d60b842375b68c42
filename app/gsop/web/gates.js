// The gates as pictures: one canvas a block, a cell a channel (or the map of a position gate).

import { ofDifference, ofGate } from "./colours.js";

const CELL = 8; // canvas pixels of a channel; CSS scales the whole

/** Columns of a grid of so many channels, about twice as wide as high. */
const columns = (count) => Math.min(count, Math.ceil(Math.sqrt(count * 2)));

/** What tells a gate from the others of a version. */
export const name = (gate) => (gate.kind === "channel" ? gate.block : `${gate.block} by ${gate.kind}`);

/**
 * Show gates, and call back with what is pointed at.
 *
 * shown: { gates, others, label, otherLabel, usual, input, stretched }; `gates` and `others` as the
 * service writes them, `usual` the statistics of the version by block name, `input` an ImageBitmap.
 */
export function draw(place, shown, onPointed) {
  const blocks = shown.gates.map((gate, index) => block(gate, shown.others?.[index], shown, onPointed));
  place.replaceChildren(...blocks);
}

function block(gate, other, shown, onPointed) {
  const values = gate.gate.flat(Infinity);
  const comparable = other && other.gate.flat(Infinity).length === values.length ? other.gate.flat(Infinity) : null;
  const grid = gate.kind === "channel" ? columns(values.length) : gate.shape[1];
  const usual = shown.usual?.[name(gate)];
  const tell = (index) => onPointed(sentence(gate, index, values, comparable, usual, shown, grid));
  const pair = element("div", { className: "pair" });
  const stretched = shown.stretched;
  pair.append(picture(gate, values, grid, (v) => ofGate(v, stretched), `${shown.label}`, tell, shown.input));
  if (comparable) {
    const apart = values.map((value, i) => value - comparable[i]);
    pair.append(
      picture(gate, comparable, grid, (v) => ofGate(v, stretched), shown.otherLabel, tell, null),
      picture(gate, apart, grid, ofDifference, `difference: ${shown.label} less ${shown.otherLabel}`, tell, null),
    );
  }
  const figure = element("div", { className: "gate" });
  const kind = gate.kind === "channel" ? `${values.length} channels` : `${gate.shape.join(" × ")} positions`;
  figure.append(element("h3", { textContent: `${name(gate)} · ${kind}` }), pair, summary(gate, values, usual), table(gate, values, usual, grid));
  return figure;
}

function picture(gate, values, grid, colour, label, tell, input) {
  const rows = Math.ceil(values.length / grid);
  const canvas = element("canvas", { width: grid * CELL, height: rows * CELL, tabIndex: 0 });
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name(gate)}, ${label}: ${values.length} values, mean ${mean.toFixed(3)}, ` +
    `from ${Math.min(...values).toFixed(3)} to ${Math.max(...values).toFixed(3)}. Arrow keys walk through them.`);
  paint(canvas, values, grid, colour, input && gate.kind !== "channel" ? input : null);
  let at = 0;
  const go = (index) => {
    at = Math.min(Math.max(index, 0), values.length - 1);
    tell(at);
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * grid);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    if (row * grid + column < values.length) go(row * grid + column);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid, ArrowUp: -grid }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    go(at + move);
  });
  canvas.addEventListener("focus", () => go(at));
  return canvas;
}

function paint(canvas, values, grid, colour, input) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (input) context.drawImage(input, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = input ? 0.6 : 1;
  values.forEach((value, index) => {
    const [r, g, b] = colour(value);
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect((index % grid) * CELL, Math.floor(index / grid) * CELL, CELL, CELL);
  });
}

function place(gate, index, grid) {
  return gate.kind === "channel" ? `channel ${index}` : `row ${Math.floor(index / grid)}, column ${index % grid}`;
}

function sentence(gate, index, values, others, usual, shown, grid) {
  const parts = [`${name(gate)}, ${place(gate, index, grid)}: ${values[index].toFixed(4)}`];
  if (others) parts.push(`${shown.otherLabel} ${others[index].toFixed(4)} (${signed(values[index] - others[index])})`);
  if (usual) {
    parts.push(`${usual.source} ${usual.mean[index].toFixed(4)} ± ${usual.std[index].toFixed(4)}`);
    const z = score(values, usual, index);
    if (z !== null) parts.push(`z ${signed(z, 1)}`);
  }
  const known = reference(gate);
  if (known) parts.push(`z of the reference ${signed(known[index], 1)}`);
  return parts.join(" · ");
}

const score = (values, usual, index) =>
  usual.std[index] > 1e-9 ? (values[index] - usual.mean[index]) / usual.std[index] : null;

/** By how many deviations each value is off the reference's images of its class; none without a reference. */
const reference = (gate) => gate.z?.flat(Infinity);

function summary(gate, values, usual) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  let text = `mean ${mean.toFixed(3)}, ${Math.min(...values).toFixed(3)} to ${Math.max(...values).toFixed(3)}`;
  if (usual) {
    const far = values.filter((_, i) => Math.abs(score(values, usual, i) ?? 0) > 3).length;
    text += `; ${far} beyond 3 deviations of ${usual.source}`;
  }
  const known = reference(gate);
  if (known) text += `; ${known.filter((z) => Math.abs(z) > 3).length} beyond 3 of the reference`;
  return element("p", { className: "small faint", textContent: text });
}

/** All values in words, made when it is opened: 2048 rows are work. */
function table(gate, values, usual, grid) {
  const details = element("details");
  details.append(element("summary", { textContent: "as a table" }));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const known = reference(gate);
    const head = ["where", "gate", ...(usual ? ["mean", "deviation", "z"] : []), ...(known ? ["z of the reference"] : [])];
    const rows = values.map((value, i) => [
      place(gate, i, grid), value.toFixed(4),
      ...(usual ? [usual.mean[i].toFixed(4), usual.std[i].toFixed(4), signed(score(values, usual, i) ?? 0, 1)] : []),
      ...(known ? [signed(known[i], 1)] : []),
    ]);
    const box = element("div", { tabIndex: 0 });
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", `the values of ${name(gate)}`);
    box.append(tableOf(head, rows, (column) => column > 0));
    details.append(box);
  });
  return details;
}

export function tableOf(head, rows, isNumber) {
  const table = element("table");
  const cells = (tag, row) => {
    const line = element("tr");
    row.forEach((cell, column) => {
      const field = element(tag, { className: isNumber(column) ? "number" : "" });
      if (tag === "th") field.scope = "col";
      field.append(cell);
      line.append(field);
    });
    return line;
  };
  const top = element("thead");
  top.append(cells("th", head));
  const body = element("tbody");
  body.append(...rows.map((row) => cells("td", row)));
  table.append(top, body);
  return table;
}

export function element(tag, members = {}) {
  return Object.assign(document.createElement(tag), members);
}

const signed = (value, digits = 4) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
