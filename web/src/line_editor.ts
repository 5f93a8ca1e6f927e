// The line that is being typed: text, cursor, what was cut, history, search. It knows nothing of the screen.

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** Where the character before (or after) a place begins (or ends), as people count characters. */
function before(text: string, at: number): number {
  let start = 0;
  for (const { index } of graphemes.segment(text.slice(0, at))) start = index;
  return start;
}

function after(text: string, at: number): number {
  const [first] = graphemes.segment(text.slice(at));
  return at + (first?.segment.length ?? 0);
}

function wordBefore(text: string, at: number): number {
  return text.slice(0, at).replace(/\S+\s*$/, "").length;
}

function wordAfter(text: string, at: number): number {
  return at + (/^\s*\S*/.exec(text.slice(at))?.[0].length ?? 0);
}

/** What a key came to: `run` a line, `stop` (Ctrl+C), `end` (Ctrl+D on nothing), `complete`, `clear`, or only `changed`. */
export type Outcome = "run" | "stop" | "end" | "complete" | "clear" | "changed" | "nothing";

const ACTIONS: Readonly<Record<string, (editor: LineEditor) => Outcome>> = {
  "\r": (editor) => editor.accept(),
  "\n": (editor) => editor.accept(),
  "\t": () => "complete",
  "\x03": () => "stop",
  "\x04": (editor) => (editor.text ? editor.erase(editor.cursor, after(editor.text, editor.cursor)) : "end"),
  "\x0c": () => "clear",
  "\x01": (editor) => editor.move(0),
  "\x05": (editor) => editor.move(editor.text.length),
  "\x02": (editor) => editor.move(before(editor.text, editor.cursor)),
  "\x06": (editor) => editor.move(after(editor.text, editor.cursor)),
  "\x7f": (editor) => editor.erase(before(editor.text, editor.cursor), editor.cursor),
  "\b": (editor) => editor.erase(before(editor.text, editor.cursor), editor.cursor),
  "\x0b": (editor) => editor.cut(editor.cursor, editor.text.length),
  "\x15": (editor) => editor.cut(0, editor.cursor),
  "\x17": (editor) => editor.cut(wordBefore(editor.text, editor.cursor), editor.cursor),
  "\x1b\x7f": (editor) => editor.cut(wordBefore(editor.text, editor.cursor), editor.cursor),
  "\x1bd": (editor) => editor.cut(editor.cursor, wordAfter(editor.text, editor.cursor)),
  "\x19": (editor) => editor.insert(editor.yanked),
  "\x10": (editor) => editor.recall(-1),
  "\x0e": (editor) => editor.recall(1),
  "\x12": (editor) => editor.search(),
  "\x1b[A": (editor) => editor.recall(-1),
  "\x1b[B": (editor) => editor.recall(1),
  "\x1b[C": (editor) => editor.move(after(editor.text, editor.cursor)),
  "\x1b[D": (editor) => editor.move(before(editor.text, editor.cursor)),
  "\x1b[H": (editor) => editor.move(0),
  "\x1b[F": (editor) => editor.move(editor.text.length),
  "\x1b[3~": (editor) => editor.erase(editor.cursor, after(editor.text, editor.cursor)),
  "\x1b[1;5C": (editor) => editor.move(wordAfter(editor.text, editor.cursor)),
  "\x1b[1;5D": (editor) => editor.move(wordBefore(editor.text, editor.cursor)),
  "\x1bf": (editor) => editor.move(wordAfter(editor.text, editor.cursor)),
  "\x1bb": (editor) => editor.move(wordBefore(editor.text, editor.cursor)),
};
/** One key as xterm.js sends it: a sequence, Alt and a character, or one character. */
const KEYS = /\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|\x1b[^\x1b]|[^]/gu;

/** What was typed, key by key; text between keys stays in one piece. */
export function keysIn(data: string): string[] {
  const found: string[] = [];
  for (const [key] of data.replaceAll("\x1bO", "\x1b[").matchAll(KEYS)) {
    const isText = key >= " " && key !== "\x7f" && !key.startsWith("\x1b");
    const last = found[found.length - 1];
    if (isText && last !== undefined && last >= " " && last !== "\x7f" && !last.startsWith("\x1b")) found[found.length - 1] = last + key;
    else found.push(key);
  }
  return found;
}

interface Search {
  wanted: string;
  at: number;
  kept: string;
}

export class LineEditor {
  text = "";
  cursor = 0;
  yanked = "";
  private place = -1;
  private draft = "";
  private searching: Search | null = null;

  /** `lines` are those that were typed before, oldest first. */
  constructor(private readonly lines: () => readonly string[]) {}

  /** What stands where the prompt is while lines are searched for; empty otherwise. */
  get searchPrompt(): string {
    const search = this.searching;
    if (!search) return "";
    const failed = search.wanted !== "" && search.at < 0 ? "nothing has " : "";
    return `(search: ${failed}'${search.wanted}') `;
  }

  /** Take one key of `keysIn`. */
  key(key: string): Outcome {
    if (this.searching) {
      const found = this.searchKey(key);
      if (found !== null) return found;
    }
    const action = ACTIONS[key];
    if (action) return action(this);
    return key < " " || key === "\x7f" ? "nothing" : this.insert(key);
  }

  /** Put text in at the cursor. */
  insert(text: string): Outcome {
    return this.replace(this.cursor, this.cursor, text);
  }

  /** Put text in place of what is between two places; the cursor stands after it. */
  replace(start: number, end: number, text: string): Outcome {
    this.text = this.text.slice(0, start) + text + this.text.slice(end);
    return this.move(start + text.length);
  }

  move(to: number): Outcome {
    this.cursor = to;
    return "changed";
  }

  erase(start: number, end: number): Outcome {
    return this.replace(start, end, "");
  }

  cut(start: number, end: number): Outcome {
    if (end > start) this.yanked = this.text.slice(start, end);
    return this.erase(start, end);
  }

  accept(): Outcome {
    this.searching = null;
    return "run";
  }

  /** The line, which begins anew. */
  take(): string {
    const line = this.text;
    this.set("");
    this.place = -1;
    this.searching = null;
    return line;
  }

  /** The line before or after this one in history. */
  recall(step: -1 | 1): Outcome {
    const lines = this.lines();
    const from = this.place < 0 ? lines.length : this.place;
    const to = from + step;
    if (to < 0 || to > lines.length || (this.place < 0 && step > 0)) return "nothing";
    if (this.place < 0) this.draft = this.text;
    this.place = to === lines.length ? -1 : to;
    return this.set(lines[to] ?? this.draft);
  }

  /** Search for a line backwards, or for the next older one. */
  search(): Outcome {
    this.searching = { wanted: "", at: this.lines().length, kept: this.text };
    return "changed";
  }

  private set(text: string): Outcome {
    this.text = text;
    return this.move(text.length);
  }

  /** A key while searching: null for one that ends the search and then does what it always does. */
  private searchKey(key: string): Outcome | null {
    const search = this.searching as Search;
    if (key === "\x12") return this.look(search.wanted, (search.at < 0 ? this.lines().length : search.at) - 1);
    if (key === "\x7f" || key === "\b") return this.look(search.wanted.slice(0, before(search.wanted, search.wanted.length)), this.lines().length);
    if (key >= " " && !key.startsWith("\x1b")) return this.look(search.wanted + key, Math.min(search.at < 0 ? Infinity : search.at, this.lines().length - 1));
    this.searching = null;
    if (key === "\x07" || key === "\x1b") return this.set(search.kept);
    return key === "\x03" ? this.set(search.kept) && "stop" : null;
  }

  /** The newest line with the text in it, at or before a place. */
  private look(wanted: string, from: number): Outcome {
    const search = this.searching as Search;
    const lines = this.lines();
    let at = wanted ? Math.min(from, lines.length - 1) : lines.length;
    while (wanted && at >= 0 && !(lines[at] as string).includes(wanted)) at -= 1;
    if (at >= 0 || search.wanted !== wanted) search.at = at;
    search.wanted = wanted;
    const found = lines[at];
    if (found !== undefined && wanted) {
      this.text = found;
      this.cursor = found.indexOf(wanted);
    }
    return "changed";
  }
}
