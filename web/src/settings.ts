// What this browser remembers: theme, format, colours, and the lines that were typed. Nothing of it leaves the browser.

const HISTORY_LINES = 1000;
const HISTORY_LINE_CHARS = 4000;

function read(name: string): string | null {
  try {
    return localStorage.getItem(`retire.${name}`);
  } catch {
    return null; // Storage is off in this browser: nothing is remembered.
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`retire.${name}`, value);
  } catch {
    // As above, or it is full: the page works all the same.
  }
}

export const FORMATS = ["table", "json", "csv", "tsv"] as const;
export type Name = "format" | "theme" | "colour";
const CHOICES: Record<Name, readonly string[]> = { format: FORMATS, theme: [], colour: ["on", "off"] };

/** The settings of the terminal, remembered. */
export class Settings {
  private readonly values: Record<Name, string>;

  constructor(private readonly themes: readonly string[], private readonly changed: (name: Name) => void) {
    const kept = (name: Name) => this.choices(name).find((each) => each === read(name)) ?? (this.choices(name)[0] as string);
    this.values = { format: kept("format"), theme: kept("theme"), colour: kept("colour") };
  }

  choices(name: Name): readonly string[] {
    return name === "theme" ? this.themes : CHOICES[name];
  }

  get(name: Name): string {
    return this.values[name];
  }

  /** Throws an Error that says what is allowed. */
  set(name: Name, value: string): void {
    if (!this.choices(name).includes(value)) {
      throw new Error(`${name} is one of ${this.choices(name).join(", ")}; not ${JSON.stringify(value)}`);
    }
    this.values[name] = value;
    write(name, value);
    this.changed(name);
  }
}

/** The lines that were typed in this browser, oldest first; shared by all tabs of the terminal. */
export class History {
  lines: string[] = [];

  constructor() {
    this.load();
    addEventListener("storage", (event) => {
      if (event.key === "retire.history") this.load();
    });
  }

  /** Remember a line; one that is the same as the last one, or begins with a blank, is not. */
  add(line: string): void {
    if (!line.trim() || line.startsWith(" ") || line.length > HISTORY_LINE_CHARS || line === this.lines.at(-1)) return;
    this.lines = [...this.lines, line].slice(-HISTORY_LINES);
    write("history", JSON.stringify(this.lines));
  }

  private load(): void {
    try {
      const kept: unknown = JSON.parse(read("history") ?? "[]");
      if (Array.isArray(kept)) this.lines = kept.filter((each) => typeof each === "string");
    } catch {
      this.lines = [];
    }
  }
}
