// What an answer hangs on: the same image with other gates, and without single channels.

import { element, tableOf } from "./gates.js";

const WAYS = {
  open: "all open (1)",
  closed: "all closed (0)",
  mean: "each its own mean",
  other: "the other image's",
};
const STRONGEST = 10;

/** Show an answer of POST /inspect. */
export function showInspection(place, found) {
  const label = labelOf(found);
  const parts = [element("h3", { textContent: "With other gates" }), ablations(found, label)];
  for (const switched of found.channels) {
    parts.push(
      element("h3", { textContent: `${switched.gate}: the channels that matter most` }),
      element("p", { className: "small faint", textContent:
        `Each of ${switched.effects.length} channels is closed alone. Effect: what the logit of ${label} loses by it.` }),
      channels(switched, label));
  }
  place.replaceChildren(...parts);
}

const labelOf = (found) => found.predictions[0].label;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

function ablations(found, label) {
  const rows = found.ablations.map(({ stage, way, prediction, probability }) =>
    [stage, WAYS[way] ?? way, `${prediction.label} (${percent(prediction.probability)})`, bar(label, probability), percent(probability)]);
  rows.unshift(["none", "as they are", `${label} (${percent(found.predictions[0].probability)})`,
    bar(label, found.predictions[0].probability), percent(found.predictions[0].probability)]);
  return tableOf(["stage", "its gates", "answer", "share", `of ${label}`], rows, (column) => column === 4);
}

function channels(switched, label) {
  const rows = switched.strongest.slice(0, STRONGEST).map((channel) =>
    [`${channel}`, signed(switched.effects[channel]), bar(label, switched.probabilities[channel]),
      percent(switched.probabilities[channel])]);
  return tableOf(["channel", "effect", "share", `of ${label}`], rows, (column) => column === 1 || column === 3);
}

function bar(label, share) {
  const progress = element("progress", { max: 1, value: share });
  progress.setAttribute("aria-label", `${label}: ${percent(share)}`);
  return progress;
}
