// One tab: runs the lines that are typed or pasted, one after the other, and shows what comes of each.
import { ApiError, command, isAbort, signIn, type CommandAnswer, type Listing, type StreamSpec } from "./api";
import { dim } from "./event_lines";
import { follow } from "./events";
import { keysIn } from "./line_editor";
import { LineReader } from "./line_reader";
import { runLocal } from "./local_commands";
import { SafeText, safeLine } from "./safe_text";
import type { Screen } from "./screen";
import type { History, Settings } from "./settings";
import { StreamPrinter } from "./stream_printer";

const NARROWEST = 20;
const WIDEST = 1000;
const PASTE_ASKS_FROM_LINES = 6;
const MAX_PASTE_CHARS = 100_000;

/** What a session needs of the page around it. */
export interface Page {
  settings: Settings;
  history: History;
  closed(session: Session): void;
  /** What was listed: ids that may become links. */
  listed(listing: Listing): void;
  /** Which command runs; empty at the prompt. */
  titled(session: Session, title: string): void;
}

export class Session {
  readonly reader: LineReader;
  private readonly queue: string[] = [];
  private typedAhead = "";
  private doing: AbortController | null = null;
  private listing: Listing | undefined;
  private lastTable: { line: string; mark: number; columns: number } | null = null;
  /** Draws what `--watch` shows, which is on a screen of its own. */
  private drawWatched: (() => void) | null = null;
  private over = false;

  constructor(readonly screen: Screen, private readonly page: Page) {
    this.reader = new LineReader(screen, page.history, {
      line: (text) => void this.run(text),
      stop: () => this.stop(),
      end: () => page.closed(this),
      clear: () => this.clear(),
    });
  }

  get busy(): boolean {
    return this.doing !== null;
  }

  start(welcome: string): void {
    this.screen.print(welcome);
    this.reader.show();
  }

  /** Say something that nobody asked for, above the line that is typed. */
  notice(text: string): void {
    this.reader.above(() => this.screen.print(`${dim(`— ${safeLine(text)}`)}\n`));
  }

  /** Take keys, as xterm.js sends them. */
  typed(data: string): void {
    for (const key of keysIn(data)) {
      if (this.reader.active) this.reader.key(key);
      else if (key === "\x03") this.stop();
      else this.typedAhead += key;
    }
  }

  /** Run lines one after the other; what follows the last line end is left to be typed on. */
  async paste(text: string): Promise<void> {
    const lines = text.slice(0, MAX_PASTE_CHARS).replace(/\r\n?/g, "\n").split("\n").map(pasted);
    if (this.reader.asking || lines.length === 1) return this.typed(lines[0] as string);
    const rest = lines.pop() as string;
    if (lines.length >= PASTE_ASKS_FROM_LINES && this.reader.active) {
      const answer = await this.reader.ask(`Run ${lines.length} lines? [y/N] `, false);
      this.reader.show();
      if (!/^y(es)?$/i.test(answer?.trim() ?? "")) return;
    }
    // As if typed: the first line joins what stands at the prompt, the rest waits there for more.
    if (this.reader.active) this.typed(`${lines.shift() as string}\r`);
    this.queue.push(...lines.filter((each) => each.trim()));
    this.typedAhead += rest;
    if (!this.busy) this.next();
  }

  /** Run a line as if it had been typed; what stands at the prompt stays. */
  submit(line: string): void {
    this.queue.push(line);
    if (!this.busy && !this.reader.asking) this.next();
  }

  /** Stop what runs and what waits, or give up the line. */
  stop(): void {
    this.queue.length = 0;
    this.typedAhead = "";
    if (this.reader.asking) return this.reader.answer(null);
    if (this.doing) return this.doing.abort();
    this.reader.leave(this.reader.editor.take(), "^C");
    this.reader.show();
  }

  /** The tab is closed. */
  close(): void {
    this.over = true;
    this.doing?.abort();
  }

  clear(): void {
    this.screen.clear();
    this.lastTable = null;
    this.reader.forget();
    if (this.reader.active) this.reader.show();
  }

  /** The screen has another size: draw it anew, and the newest table for the new width. */
  async resized(): Promise<void> {
    if (this.drawWatched) return this.drawWatched();
    this.redraw();
    const table = this.lastTable;
    if (!table || this.busy) return;
    const answer = await this.ask(table.line, new AbortController().signal).catch(() => null);
    if (!answer || this.lastTable !== table || this.busy) return;
    this.screen.forget(table.mark);
    this.screen.print(textOf(answer));
    table.columns = this.screen.columns;
    this.redraw();
  }

  private redraw(): void {
    this.reader.forget();
    this.screen.redraw();
    if (this.reader.active) this.reader.show();
  }

  // -- one line after the other

  private next(): void {
    if (this.over) return;
    const line = this.queue.shift();
    if (line !== undefined) {
      this.reader.leave(line);
      void this.run(line);
      return;
    }
    this.page.titled(this, "");
    this.reader.show();
    // The screen may have changed its size while the main was asked.
    if (this.lastTable && this.lastTable.columns !== this.screen.columns) void this.resized();
    const typed = this.typedAhead;
    this.typedAhead = "";
    if (typed) this.typed(typed);
  }

  private async run(line: string): Promise<void> {
    this.page.history.add(line);
    this.lastTable = null;
    const doing = new AbortController();
    this.doing = doing;
    if (line.trim()) this.page.titled(this, line.trim());
    try {
      this.reader.failed = (await this.result(line, doing.signal)) !== 0;
    } catch (error) {
      this.reader.failed = true;
      this.screen.endLine();
      this.screen.print(isAbort(error) ? "^C\n" : `\x1b[31m${safeLine(error instanceof Error ? error.message : String(error))}\x1b[0m\n`);
    }
    this.screen.endLine();
    this.doing = null;
    this.next();
  }

  /** Run a line; its exit code. */
  private async result(line: string, signal: AbortSignal): Promise<number> {
    if (!line.trim()) return 0;
    const { settings, history } = this.page;
    const local = runLocal(line, { settings, history, session: this, close: () => this.page.closed(this) });
    if (local !== null) {
      this.screen.print(local);
      return 0;
    }
    const [mark, columns] = [this.screen.mark(), this.screen.columns];
    const answer = await this.askWithToken(line, signal);
    if (answer.again_s) return this.watch(line, answer, signal);
    this.screen.print(textOf(answer));
    this.remember(answer);
    if (answer.stream) return this.follow(answer.stream, answer.format, signal);
    if (answer.listed) this.lastTable = { line, mark, columns };
    return answer.exit_code;
  }

  private remember({ listed }: CommandAnswer): void {
    if (!listed) return;
    this.listing = listed;
    this.page.listed(listed);
  }

  private async ask(line: string, signal: AbortSignal): Promise<CommandAnswer> {
    const { settings } = this.page;
    const width = Math.min(WIDEST, Math.max(NARROWEST, this.screen.columns));
    const body = { line, width, format: settings.get("format"), colour: settings.get("colour") === "on", last: this.listing };
    return command(body, signal);
  }

  /** Ask the main; where it wants a token, ask the person for it, once. */
  private async askWithToken(line: string, signal: AbortSignal): Promise<CommandAnswer> {
    try {
      return await this.ask(line, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      this.screen.print(`${dim("This needs the token of the main (the text in admin.token in its data folder).")}\n`);
      const token = await this.reader.ask("Token: ", true);
      if (!token?.trim()) throw error;
      await signIn(token.trim());
      return this.ask(line, signal);
    }
  }

  // -- commands that go on

  private async follow(spec: StreamSpec, format: string, signal: AbortSignal): Promise<number> {
    const printer = new StreamPrinter(this.screen, spec, format);
    try {
      await follow(spec.address, printer, signal);
      return printer.exitCode;
    } finally {
      printer.close();
    }
  }

  /** The same again and again, in place; what it said last stays. */
  private async watch(line: string, first: CommandAnswer, signal: AbortSignal): Promise<number> {
    const { terminal } = this.screen;
    let answer = first;
    const draw = () => {
      const title = dim(`every ${answer.again_s} s, ${new Date().toLocaleTimeString("en-GB")}, Ctrl+C ends`);
      const lines = textOf(answer).split("\n").slice(0, Math.max(1, terminal.rows - 3));
      this.screen.draw(`\x1b[H\x1b[2J${title}\n\n${lines.join("\n")}`);
    };
    this.screen.draw("\x1b[?1049h\x1b[?25l");
    this.drawWatched = draw;
    try {
      for (;;) {
        draw();
        await new Promise<void>((done, stop) => {
          const timer = setTimeout(done, 1000 * (answer.again_s as number));
          signal.addEventListener("abort", () => (clearTimeout(timer), stop(signal.reason)), { once: true });
        });
        answer = await this.ask(line, signal).catch((error: unknown) => {
          if (error instanceof ApiError && error.mainIsGone) return { ...answer, output: `The main does not answer.\n\n${answer.output}` };
          throw error;
        });
      }
    } finally {
      this.drawWatched = null;
      this.screen.draw("\x1b[?25h\x1b[?1049l");
      this.screen.print(textOf(answer));
      this.redraw();
      this.remember(answer);
    }
  }
}

/** What a command said, as it may stand on the screen. */
function textOf(answer: CommandAnswer): string {
  const safe = new SafeText();
  return safe.feed(answer.output.replaceAll("\r\n", "\n")) + safe.flush();
}

/** One pasted line: tabs would ask for completions, and other controls would do what they do. */
function pasted(line: string): string {
  return safeLine(line).replace(/^\s+/, "");
}
