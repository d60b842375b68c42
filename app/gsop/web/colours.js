// The colours of gates, evenly spaced from 0 to 1: those of the PNG pictures, drawn up in OKLab so that
// equal differences look equally large, in grey and to the colour-blind too.

const ANCHORS = [
  [0x15, 0x06, 0x40], [0x3d, 0x06, 0x65], [0x71, 0x05, 0x72], [0xa6, 0x13, 0x66], [0xcd, 0x3d, 0x4a],
  [0xe9, 0x69, 0x30], [0xf6, 0x99, 0x27], [0xf9, 0xc9, 0x50], [0xf7, 0xf5, 0x8a],
];
// Of differences: blue below, orange above, pale where there is none.
const APART = [[0x12, 0x4a, 0x9c], [0x5f, 0x9b, 0xd8], [0xf1, 0xf0, 0xf4], [0xe8, 0x95, 0x4a], [0xa8, 0x3a, 0x05]];

function between(anchors, at) {
  const place = Math.min(Math.max(at, 0), 1) * (anchors.length - 1);
  const low = Math.min(Math.floor(place), anchors.length - 2);
  return anchors[low].map((value, i) => Math.round(value + (anchors[low + 1][i] - value) * (place - low)));
}

/** Of a gate, 0 to 1; stretched around one half if that is what is to be seen. */
export const ofGate = (value, stretched) =>
  between(ANCHORS, stretched ? 0.5 + 0.5 * Math.tanh(8 * (value - 0.5)) : value);

/** Of a difference of two gates, -1 to 1; small ones are made visible. */
export const ofDifference = (value) => between(APART, 0.5 + 0.5 * Math.tanh(4 * value));
