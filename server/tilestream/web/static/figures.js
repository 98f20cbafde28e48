// What is shown of a session as numbers and graphs, and how it is written.

export const NOTHING = "–";

const percent = (digits) => (value) => `${(100 * value).toFixed(digits)} %`;

/** 0.0345 -> "35 ms", 4.4361 -> "4.4 s". */
export const latency = (seconds) =>
  seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;

/** key: of the session's row; low, high: of the graph, null: from the values. */
export const FIGURES = [
  {
    key: "fps",
    name: "Frames/s",
    what: "frames answered with labels per second",
    text: (v) => v.toFixed(1),
    low: 0,
    high: null,
  },
  {
    key: "latency_p99",
    name: "Latency",
    what: "from a frame's arrival to its answer, 99th percentile",
    text: latency,
    low: 0,
    high: null,
  },
  {
    key: "block_drop_rate",
    name: "Block drop",
    what: "share of the network that was not computed",
    text: percent(0),
    low: 0,
    high: 1,
  },
  {
    key: "block_budget",
    name: "Budget",
    what: "share of the network that frames may compute",
    text: percent(0),
    low: 0,
    high: 1,
  },
  {
    key: "agreement",
    name: "Agreement",
    what: "recomputed pixels that kept their label",
    text: percent(1),
    low: null,
    high: 1,
  },
];

/** A value of a row, written; a dash for what is not known. */
export function told(figure, row) {
  const value = row[figure.key];
  return value === null || value === undefined ? NOTHING : figure.text(value);
}

/** 3725 -> "1 h 2 min". */
export function duration(seconds) {
  if (seconds === null) return NOTHING;
  const whole = Math.floor(seconds);
  const [days, hours, minutes] = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
  ];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${whole} s`;
}

/** The name of a camera for people; sessions need not have one. */
export const nameOf = (row) => row.camera || row.session;

const LEVELS = ["normal", "reduced", "shedding", "refusing"];
const SAID = {
  normal: () => "keeps up",
  reduced: (load) => `budgets lowered to ${Math.round(100 * load.scale)} %`,
  shedding: () => "drops late frames",
  refusing: () => "refuses new sessions",
};

/** The load of the engine that is worst off: its level, that in words, and the share of its time in demand. */
export function overload(loads, draining) {
  const worst = loads.reduce((one, other) =>
    LEVELS.indexOf(other.level) > LEVELS.indexOf(one.level) ? other : one,
  );
  const demand = Math.max(...loads.map((load) => load.demand));
  if (draining) return { level: "refusing", words: "shuts down", demand };
  return { level: worst.level, words: SAID[worst.level](worst), demand };
}
