// The prompt: the line that is typed there, questions with their answers, completion.
import { complete } from "./api";
import { candidateLines, completed } from "./completing";
import { dim } from "./event_lines";
import { LineEditor } from "./line_editor";
import { LineView } from "./line_view";
import { safeLine } from "./safe_text";
import type { Screen } from "./screen";
import type { History } from "./settings";

/** Who is told what was typed. */
export interface Listener {
  line(text: string): void;
  stop(): void;
  end(): void;
  clear(): void;
}

interface Question {
  prompt: string;
  hidden: boolean;
  editor: LineEditor;
  answer(text: string | null): void;
}

export class LineReader {
  readonly editor: LineEditor;
  /** Whether the prompt stands there, and keys belong to it. */
  active = false;
  /** Whether the last command failed: the prompt shows it. */
  failed = false;
  private readonly view = new LineView();
  private question: Question | null = null;
  private listed = "";

  constructor(private readonly screen: Screen, history: History, private readonly listener: Listener) {
    this.editor = new LineEditor(() => history.lines);
  }

  get asking(): boolean {
    return this.question !== null;
  }

  /** Put the prompt on the screen, or draw it anew. */
  show(): void {
    this.active = true;
    const { text, cursor } = this.current;
    const [prompt, plain] = this.prompt();
    const shown = this.question?.hidden ? "•".repeat(text.length) : text;
    this.screen.draw(this.view.draw(prompt, plain, shown, cursor, this.screen.columns));
  }

  /** Print something above the prompt. */
  above(print: () => void): void {
    if (this.active) this.screen.draw(this.view.erase());
    print();
    if (this.active) this.show();
  }

  /** The screen was emptied: the prompt stands nowhere. */
  forget(): void {
    this.view.leave();
  }

  /** Take one key of `keysIn`. */
  key(key: string): void {
    const outcome = this.current.key(key);
    if (outcome !== "complete") this.listed = "";
    if (outcome === "changed") this.show();
    else if (outcome === "run") this.accept();
    else if (outcome === "stop") this.listener.stop();
    else if (outcome === "end") this.question ? this.answer(null) : this.listener.end();
    else if (outcome === "clear") this.listener.clear();
    else if (outcome === "complete" && !this.question) void this.completeLine();
  }

  /** The prompt with a line stays on the screen; what comes next stands below it. */
  leave(line: string, mark = ""): void {
    const shown = this.question?.hidden ? "" : safeLine(line);
    const erase = this.active ? this.view.erase() : "";
    this.active = false;
    this.screen.draw(erase);
    this.screen.print(`\x1b[0m${this.prompt(true)[0]}${shown}${mark}\n`);
  }

  /** The answer to a question; null for Ctrl+C. */
  ask(prompt: string, hidden: boolean): Promise<string | null> {
    if (this.active) this.screen.draw(this.view.erase());
    return new Promise((answer) => {
      this.question = { prompt, hidden, editor: new LineEditor(() => []), answer };
      this.show();
    });
  }

  /** End a question. */
  answer(text: string | null): void {
    const question = this.question as Question;
    this.leave(text ?? question.editor.text, text === null ? "^C" : "");
    this.question = null;
    question.answer(text);
  }

  private get current(): LineEditor {
    return this.question?.editor ?? this.editor;
  }

  private prompt(plain = false): [string, string] {
    const search = this.current.searchPrompt;
    if (search && !plain) return [dim(search), search];
    if (this.question) return [`\x1b[33m${this.question.prompt}\x1b[39m`, this.question.prompt];
    return [`\x1b[${this.failed ? 31 : 32}m❯\x1b[39m `, "❯ "];
  }

  private accept(): void {
    const text = this.current.take();
    if (this.question) return this.answer(text);
    this.leave(text);
    this.listener.line(text);
  }

  private async completeLine(): Promise<void> {
    const { text, cursor } = this.editor;
    const found = await complete(text, cursor).catch(() => null);
    if (!found || !this.active || this.question || this.editor.text !== text || this.editor.cursor !== cursor) return;
    const word = completed(found, text.slice(found.start, found.end));
    if (word !== null) {
      this.editor.replace(found.start, found.end, word);
      this.show();
    } else if (found.candidates.length > 1 && this.listed !== text) {
      this.listed = text;
      this.above(() => this.screen.print(candidateLines(found.candidates, this.screen.columns)));
    }
  }
}
