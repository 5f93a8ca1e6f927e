// One terminal of xterm.js with what all of ours share: widths, themes, size, and writing without holding up the page.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { themeNamed } from "./themes";
import { WIDTHS } from "./widths";

const SCROLLBACK_LINES = 5000;
const PIECE_CHARS = 16 * 1024;
const KEPT_CHARS = 1_500_000;
/** What may wait to be drawn. Who prints faster than a screen can show loses the middle, and is told so. */
const WAITING_CHARS = 1_000_000;
/** Written rather than called: it has its turn after what was written before it. */
const RESET = "\x1bc";

export class Screen {
  readonly terminal: Terminal;
  /** Called when what `draw` wrote is on its way to the eye. */
  drew = (): void => undefined;
  private readonly fit = new FitAddon();
  private kept = "";
  private dropped = 0;
  private waitingChars = 0;
  private skipped = 0;

  constructor(readonly element: HTMLElement, theme: string) {
    this.terminal = new Terminal({
      allowProposedApi: true, // The widths of characters are one of these.
      convertEol: true,
      cursorBlink: true,
      fontFamily: 'ui-monospace, "Cascadia Mono", "JetBrains Mono", "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: matchMedia("(max-width: 640px)").matches ? 12 : 14,
      lineHeight: 1.2,
      scrollback: SCROLLBACK_LINES,
      overviewRuler: { width: 10 },
      // Nothing that comes in may make the terminal answer, resize, or read the clipboard.
      windowOptions: {},
      linkHandler: { activate: () => undefined, allowNonHttpProtocols: false },
    });
    this.terminal.unicode.register(WIDTHS);
    this.terminal.unicode.activeVersion = WIDTHS.version;
    this.terminal.loadAddon(this.fit);
    this.refuseSequences();
    this.wear(theme);
    this.terminal.open(element);
  }

  get columns(): number {
    return this.terminal.cols;
  }

  /** Use all of the space there is. */
  resize(): void {
    if (this.element.clientWidth && this.element.clientHeight) this.fit.fit();
  }

  wear(theme: string): void {
    const { screen, contrast } = themeNamed(theme);
    this.terminal.options.theme = { ...screen, overviewRulerBorder: screen.background };
    this.terminal.options.minimumContrastRatio = contrast;
  }

  /** Write something that does not stay, as the line that is typed. */
  draw(text: string): void {
    this.terminal.write(text, this.drew);
  }

  /** Write something that stays: it comes back when the screen is drawn anew. */
  print(text: string): void {
    if (this.waitingChars > WAITING_CHARS) {
      this.skipped += text.length;
      return;
    }
    if (this.skipped) text = this.owned(`\x1b[0m\n… ${this.skipped.toLocaleString("en")} characters came too fast to be shown\n`) + text;
    this.keep(text);
    for (let start = 0; start < text.length; start += PIECE_CHARS) this.write(text.slice(start, start + PIECE_CHARS));
  }

  /** What comes next begins a line. */
  endLine(): void {
    if (this.kept && !/\n(\x1b\[[0-9;]*m)*$/.test(this.kept.slice(-40))) this.print("\n");
  }

  /** How much has been printed: a place to go back to with `forget`. */
  mark(): number {
    return this.dropped + this.kept.length;
  }

  /** Forget what was printed since a mark. Takes effect with `redraw`. */
  forget(mark: number): void {
    this.kept = this.kept.slice(0, Math.max(0, mark - this.dropped));
  }

  /** Draw everything that stays anew, for another width. */
  redraw(): void {
    this.terminal.write(RESET);
    for (let start = 0; start < this.kept.length; start += PIECE_CHARS) this.write(this.kept.slice(start, start + PIECE_CHARS));
  }

  clear(): void {
    this.forget(0);
    this.terminal.write(RESET);
  }

  /** The text of the whole buffer, or of what can be seen, line by line. */
  text(visible: boolean): string[] {
    const buffer = this.terminal.buffer.active;
    const first = visible ? buffer.viewportY : 0;
    const last = visible ? first + this.terminal.rows : buffer.length;
    const lines: string[] = [];
    for (let at = first; at < last; at += 1) lines.push(buffer.getLine(at)?.translateToString(true) ?? "");
    return lines;
  }

  private owned(text: string): string {
    this.skipped = 0;
    return text;
  }

  private keep(text: string): void {
    this.kept += text;
    if (this.kept.length < 2 * KEPT_CHARS) return;
    const start = this.kept.indexOf("\n", this.kept.length - KEPT_CHARS) + 1;
    this.dropped += start;
    this.kept = this.kept.slice(start);
  }

  private write(piece: string): void {
    this.waitingChars += piece.length;
    this.terminal.write(piece, () => {
      this.waitingChars -= piece.length;
    });
  }

  /** A third line of defence: what could reach beyond the screen is not understood here at all. */
  private refuseSequences(): void {
    const { parser } = this.terminal;
    for (const code of [0, 1, 2, 4, 7, 8, 9, 10, 11, 12, 22, 50, 52, 104, 110, 111, 112, 1337]) {
      parser.registerOscHandler(code, () => true);
    }
    for (const final of ["c", "n", "t", "x"]) {
      for (const prefix of ["", "?", ">", "="]) parser.registerCsiHandler(prefix ? { prefix, final } : { final }, () => true);
    }
    parser.registerDcsHandler({ intermediates: "$", final: "q" }, () => true);
    parser.registerDcsHandler({ intermediates: "+", final: "q" }, () => true);
  }
}
