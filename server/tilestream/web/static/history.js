// The last minutes of every session, as this page has seen them: the server keeps none.

const SAMPLES = 120;

export class History {
  #rows = new Map();

  /** Remember a look at all sessions, and forget those that are over. */
  add(rows) {
    const before = this.#rows;
    this.#rows = new Map();
    for (const row of rows) {
      const samples = before.get(row.session) ?? [];
      samples.push(row);
      if (samples.length > SAMPLES) samples.shift();
      this.#rows.set(row.session, samples);
    }
  }

  /** A figure over the last looks, oldest first; null where it was not known. */
  of(session, key) {
    return (this.#rows.get(session) ?? []).map((row) => row[key] ?? null);
  }
}
