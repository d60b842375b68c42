// The page: an image in, the answer and its gates out. No framework, no build, nothing from elsewhere.

import * as api from "./api.js";
import { ofGate } from "./colours.js";
import { draw, element, name, tableOf } from "./gates.js";
import { showInspection } from "./inspect.js";
import { watch } from "./live.js";

const at = (id) => document.getElementById(id);
const KEEP = "Keep this one, and compare the next with it";
const LET_GO = "Compared with the kept one: let it go";
const EXAMPLES = ["0", "3", "5-b", "7", "8"];

const page = {
  file: null, // what was given last
  answer: null, // { label, gates, predictions, … } of the chosen version
  beside: null, // of the other version, or of the image that was kept
  kept: null,
  usual: null, // statistics by block
  input: null, // as the network saw it
  turn: 0, // of the newest question: older answers are let go
};

// ── what is wrong ─────────────────────────────────────────────────────────────────────────────

function trouble(error) {
  const box = at("trouble");
  if (!error) {
    box.hidden = true;
    return;
  }
  if (error.status === 401 || (error.status === 403 && error.code === "forbidden")) at("key-form").hidden = false;
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  box.textContent = error.message.replace(/\.?$/, ".") + wait;
  box.hidden = false;
}

async function guarded(work) {
  try {
    const result = await work();
    trouble(null);
    return result;
  } catch (error) {
    if (!(error instanceof api.Refusal)) throw error;
    trouble(error);
    return null;
  }
}

// ── which version ─────────────────────────────────────────────────────────────────────────────

async function listVersions() {
  const { models } = await api.models();
  const loaded = models.filter((model) => model.loaded);
  const option = (model, text) => element("option", { value: `${model.name}/${model.version}`, textContent: text });
  const chosen = at("version").value, beside = at("beside").value;
  at("version").replaceChildren(
    element("option", { value: "", textContent: "as the traffic goes" }),
    ...loaded.map((model) => option(model, `${model.name}/${model.version}${model.default ? " (stable)" : ""}`)));
  at("beside").replaceChildren(element("option", { value: "", textContent: "nothing" }),
    ...loaded.map((model) => option(model, `${model.name}/${model.version}`)));
  at("version").value = [...at("version").options].some((o) => o.value === chosen) ? chosen : "";
  at("beside").value = [...at("beside").options].some((o) => o.value === beside) ? beside : "";
}

const version = (text) => {
  if (!text) return {};
  const [model, number] = text.split("/");
  return { model, version: number };
};

// ── an image ──────────────────────────────────────────────────────────────────────────────────

async function look(file) {
  page.file = file;
  const turn = ++page.turn;
  show(at("shown"), file, "the image that was sent");
  const chosen = version(at("version").value), beside = at("beside").value;
  await guarded(async () => {
    const answer = await compared(told(await api.predict(file, chosen)));
    const other = beside ? told(await api.predict(file, version(beside))) : null;
    const input = await api.preprocess(file, answer.version);
    const bitmap = await createImageBitmap(input);
    if (turn !== page.turn) return;
    Object.assign(page, { answer, beside: other ?? page.kept, input: bitmap });
    show(at("input"), input, "the image as the network sees it");
    at("keep").hidden = false;
    offerInspection(true);
    await showAnswer();
  });
  await listNewest();
}

/** The answer with what the version's reference says of it, where there is one and a record. */
async function compared(answer) {
  try {
    const { familiarity, stages } = await api.record(answer.id);
    return { ...answer, familiarity, gates: stages };
  } catch (error) {
    if (error instanceof api.Refusal) return answer;
    throw error;
  }
}

function told(answer) {
  return {
    id: answer.id,
    label: `${answer.model.name}/${answer.model.version}`,
    version: { model: answer.model.name, version: answer.model.version },
    role: answer.role,
    predictions: answer.predictions,
    gates: answer.attention ?? answer.stages,
    timing: answer.timing_ms,
    familiarity: answer.familiarity,
  };
}

function show(image, blob, text) {
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  image.alt = text;
  image.hidden = false;
}

// ── the answer ────────────────────────────────────────────────────────────────────────────────

async function showAnswer() {
  const { answer, beside } = page;
  const parts = [bars(answer, "")];
  if (beside) parts.push(bars(beside, "other"));
  if (answer.timing) {
    const times = Object.entries(answer.timing).map(([part, ms]) => `${part} ${ms.toFixed(2)} ms`).join(" · ");
    parts.push(element("p", { className: "small faint", textContent: times }));
  }
  if (answer.familiarity !== null && answer.familiarity !== undefined) {
    parts.push(element("p", { className: "small faint", textContent:
      `Familiarity ${(100 * answer.familiarity).toFixed(1)} %: so many known images of that class have gates as unusual as these.` }));
  }
  at("answer").replaceChildren(...parts);
  page.usual = await statisticsOf(answer.version);
  drawGates();
}

function bars(answer, kind) {
  const box = element("div");
  const role = answer.role ? ` (${answer.role})` : "";
  const note = answer.note ? `${answer.note}, ` : "";
  box.append(element("h3", { textContent: `${note}${answer.label}${role}` }));
  const rows = answer.predictions.map((prediction) => {
    const bar = element("progress", { max: 1, value: prediction.probability, className: kind });
    bar.setAttribute("aria-label", `${prediction.label}: ${(100 * prediction.probability).toFixed(1)} %`);
    return [prediction.label, bar, `${(100 * prediction.probability).toFixed(1)} %`];
  });
  box.append(tableOf(["class", "share", "probability"], rows, (column) => column === 2));
  return box;
}

async function statisticsOf(chosen) {
  try {
    const seen = await api.statistics(chosen);
    if (seen.samples < 2) return null;
    return Object.fromEntries(seen.stages.map((stage) => [name(stage),
      { source: `${seen.samples} predictions`, mean: stage.mean.flat(Infinity), std: stage.std.flat(Infinity) }]));
  } catch (error) {
    if (error instanceof api.Refusal) return null; // without them the gates are shown all the same
    throw error;
  }
}

function drawGates() {
  const { answer, beside, usual, input } = page;
  if (!answer) return;
  const shown = { gates: answer.gates, others: beside?.gates, label: answer.label, usual, input,
    otherLabel: beside ? beside.note ?? beside.label : "", stretched: at("around-half").checked };
  if (!answer.gates.length) {
    at("gates").replaceChildren(element("p", { className: "faint", textContent: "This version has no gates." }));
    return;
  }
  draw(at("gates"), shown, (text) => (at("pointed").textContent = text));
}

// ── what it hangs on ──────────────────────────────────────────────────────────────────────────

function offerInspection(is) {
  at("inspect").disabled = !is;
  at("inspection").replaceChildren();
}

async function inspectAnswer() {
  const turn = page.turn;
  at("inspect").disabled = true;
  at("inspection").replaceChildren(element("p", { className: "faint", textContent: "Computing …" }));
  const found = await guarded(() => api.inspect(page.file, page.answer.version));
  if (turn !== page.turn) return;
  offerInspection(true);
  if (found) showInspection(at("inspection"), found);
}

// ── the newest ────────────────────────────────────────────────────────────────────────────────

async function listNewest() {
  let seen;
  try {
    seen = await api.statistics(version(at("version").value));
  } catch (error) {
    if (!(error instanceof api.Refusal)) throw error;
    at("newest").replaceChildren(element("p", { className: "faint", textContent: error.message }));
    return;
  }
  if (!seen.recent.length) return;
  const rows = seen.recent.slice(0, 12).map((entry) => {
    const button = element("button", { type: "button", textContent: "look" });
    button.setAttribute("aria-label", `look at the prediction ${entry.label} of ${entry.time}`);
    button.addEventListener("click", () => guarded(() => recall(entry.id)));
    return [new Date(entry.time).toLocaleTimeString(), entry.label, `${(100 * entry.probability).toFixed(1)} %`, button];
  });
  at("newest").replaceChildren(tableOf(["time", "class", "probability", "more"], rows, (column) => column === 2));
}

async function recall(id) {
  const answer = told(await api.record(id));
  Object.assign(page, { answer, beside: page.kept, input: null });
  at("shown").hidden = at("input").hidden = true;
  offerInspection(false); // the image itself is not kept
  await showAnswer();
  at("answer-heading").focus();
}

// ── how images come ───────────────────────────────────────────────────────────────────────────

function connect() {
  for (const id of ["file", "camera"]) {
    at(id).addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = ""; // the same file may be chosen again
      if (file) look(file);
    });
  }
  const drop = at("drop");
  const over = (is) => (event) => { event.preventDefault(); drop.classList.toggle("over", is); };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    const [file] = event.dataTransfer.files;
    if (file) look(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) look(file);
  });
  for (const example of EXAMPLES) {
    const button = element("button", { type: "button" });
    button.append(element("img", { src: `web/examples/${example}.png`, alt: `Example: a handwritten ${example[0]}` }));
    button.addEventListener("click", async () => look(await (await api.ask(`web/examples/${example}.png`)).blob()));
    at("examples").append(button);
  }
  for (const id of ["version", "beside"]) at(id).addEventListener("change", () => page.file && look(page.file));
  at("keep").addEventListener("click", () => {
    page.kept = page.kept ? null : { ...page.answer, note: "the kept one" };
    at("keep").textContent = page.kept ? LET_GO : KEEP;
    at("keep").setAttribute("aria-pressed", String(page.kept !== null));
  });
  at("inspect").addEventListener("click", inspectAnswer);
  at("around-half").addEventListener("change", () => { scale(); drawGates(); });
  at("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.useKey(at("key").value.trim());
    at("key").value = "";
    at("key-form").hidden = true;
    begin();
  });
  at("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  at("theme").setAttribute("aria-pressed", String(dark));
}

function scale() {
  const context = at("scale").getContext("2d");
  for (let x = 0; x < 256; x++) {
    const [r, g, b] = ofGate(x / 255, at("around-half").checked);
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect(x, 0, 1, 12);
  }
}

async function begin() {
  if ((await guarded(listVersions)) !== null) await listNewest();
}

theme(matchMedia("(prefers-color-scheme: dark)").matches);
scale();
connect();
begin();
watch(at("live"), () => guarded(listVersions));
