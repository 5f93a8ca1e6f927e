// Text from outside on its way to the screen. The main cleans what it sends; this is the second line of defence, and what
// streams go through. Colours (SGR), tabs and line ends pass. What else a terminal obeys is shown as an escape.

const SHOWN = /\r\n|(\x1b\[[0-9;:]{0,40}m)|([\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff])/g;
const UNFINISHED = /(?:\x1b(?:\[[0-9;:]{0,40})?|\r)$/;
const CONCEALED = /(^|;)0*8(?=;|$)/;
const MAX_LINE_CHARS = 20_000;

function escaped(character: string): string {
  if (character === "\r") return "\\r";
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
}

function clean(text: string): string {
  return text.replace(SHOWN, (_: string, colour?: string, control?: string) => {
    if (control !== undefined) return escaped(control);
    if (colour === undefined) return "\n";
    // Text that nobody can see is no colour.
    return CONCEALED.test(colour.slice(2, -1)) ? "" : colour;
  });
}

/** One line from outside, without colours: names, reasons, messages. */
export function safeLine(text: string): string {
  return clean(text.replaceAll("\x1b", "\\x1b").replaceAll("\n", "\\n").replaceAll("\t", " "));
}

/** Cleans text that arrives in pieces, cut anywhere, and shortens lines that nobody could read. */
export class SafeText {
  private held = "";
  private lineChars = 0;

  /** What of it may be shown now. */
  feed(text: string): string {
    const whole = this.held + text;
    this.held = UNFINISHED.exec(whole)?.[0] ?? "";
    return this.shortened(clean(whole.slice(0, whole.length - this.held.length)));
  }

  /** What was held back for a sequence that never ended, and an end of all colours. */
  flush(): string {
    const rest = clean(this.held);
    this.held = "";
    return `${rest}\x1b[0m`;
  }

  private shortened(text: string): string {
    if (this.lineChars + text.length <= MAX_LINE_CHARS) {
      const end = text.lastIndexOf("\n");
      this.lineChars = end < 0 ? this.lineChars + text.length : text.length - end - 1;
      return text;
    }
    return text.split("\n").map((line, index) => this.cut(line, index > 0)).join("\n");
  }

  private cut(line: string, fresh: boolean): string {
    if (fresh) this.lineChars = 0;
    const room = MAX_LINE_CHARS - this.lineChars;
    const already = room <= 0;
    this.lineChars += line.length;
    if (line.length <= room) return line;
    return already ? "" : `${line.slice(0, room)}\x1b[0m… (a line of more than ${MAX_LINE_CHARS.toLocaleString("en")} characters)`;
  }
}
