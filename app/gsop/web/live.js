// What the service does now: asked for every two seconds while the page is seen, and no answer waits on it.

import { status } from "./api.js";
import { element, tableOf } from "./gates.js";

const EVERY_MS = 2000;
const LATER_MS = 10000; // after a refusal

/** Keep `place` up to date; `onBack` is called when the service is another one than before. */
export function watch(place, onBack) {
  let before = null;
  const look = async () => {
    let wait = EVERY_MS;
    if (document.visibilityState === "visible") {
      try {
        const now = await status();
        if (before && now.generation !== before.generation) onBack();
        show(place, now, before);
        before = now;
      } catch (error) {
        place.replaceChildren(element("p", { className: "faint", textContent: error.message }));
        wait = error.status === 0 || error.status >= 500 ? EVERY_MS : LATER_MS;
        before = null;
      }
    }
    setTimeout(look, wait);
  };
  look();
}

function show(place, now, before) {
  const seconds = before ? Math.max(now.time - before.time, 1e-3) : null;
  const rate = (count, earlier) => (seconds ? `${((count - earlier) / seconds).toFixed(1)} / s` : "…");
  const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);
  const facts = [
    ["phase", now.phase],
    ["images", `${rate(now.images.ok ?? 0, before?.images.ok ?? 0)}, ${now.images.ok ?? 0} answered of ${total(now.images)}`],
    ["slots", `${now.slots.used} of ${now.slots.total} taken`],
    ["batch", `${mean(now.batches, before?.batches, 1).toFixed(1)} images`],
  ];
  now.engines.forEach((engine, number) => facts.push(
    [`engine ${number}`, `${engine.state}, ${engine.device} ${engine.precision}, up to ${engine.batch_limit} a batch` +
      (engine.restarts ? `, started again ${engine.restarts} ×` : "")]));
  const list = element("dl");
  facts.forEach(([word, text]) => list.append(element("dt", { textContent: word }), element("dd", { textContent: text })));
  const spans = now.spans.map((span, index) => [
    span.name,
    `${mean(span, before?.spans[index], 1000).toFixed(2)} ms`,
    `${(1000 * quantile(span, before?.spans[index], 0.99)).toFixed(1)} ms`,
  ]);
  const versions = now.versions.filter((version) => version.state !== "unloaded").map((version) => {
    const earlier = before?.versions.find((v) => v.name === version.name && v.version === version.version);
    const roles = Object.entries(version.percent_by_role).map(([role, percent]) => `${role} ${+percent.toFixed(2)} %`);
    return [`${version.name}/${version.version}`, version.state, roles.join(", ") || "no share", rate(version.answered, earlier?.answered ?? 0),
      version.drift === null ? "–" : version.drift.toFixed(2)];
  });
  place.replaceChildren(
    list,
    tableOf(["part", "mean", "99 of 100 below"], spans, (column) => column > 0),
    tableOf(["version", "state", "share", "answers", "drift"], versions, (column) => column > 2),
  );
}

/** Of what came since then, or of all if nothing did. */
function since(now, before) {
  if (!before || now.count === before.count) return now;
  return { ...now, count: now.count - before.count, sum: now.sum - before.sum,
    buckets: now.buckets.map((count, i) => count - before.buckets[i]) };
}

function mean(now, before, scale) {
  const part = since(now, before);
  return part.count ? (scale * part.sum) / part.count : 0;
}

function quantile(now, before, share) {
  const part = since(now, before);
  let below = 0;
  for (const [index, count] of part.buckets.entries()) {
    below += count;
    if (below >= share * part.count) return part.bounds[Math.min(index, part.bounds.length - 1)];
  }
  return 0;
}
