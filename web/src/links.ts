// Ids of tasks and devices in what is shown can be clicked: the command that shows them runs here, with Ctrl the page of
// the overview is opened.
import type { IBufferLine, ILink, ILinkProvider, Terminal } from "@xterm/xterm";
import type { Listing } from "./api";

const TASK_ID = /\btask-[0-9a-z]{6,40}\b/g;
const MOST_DEVICES = 5000;

/** Ids of devices that were listed. */
export class KnownDevices {
  private readonly ids = new Set<string>();

  learn({ kind, ids }: Listing): void {
    if (kind !== "devices") return;
    for (const id of ids) if (this.ids.size < MOST_DEVICES) this.ids.add(id);
  }

  /** The words of a line that are devices, with their places. */
  *in(text: string): Generator<[number, string]> {
    for (const { index, 0: word } of text.matchAll(/[^\s,;|"'()]+/g)) if (this.ids.has(word)) yield [index, word];
  }
}

/** Finds the ids in a row of the screen, also of lines that go over several rows. */
export class IdLinks implements ILinkProvider {
  constructor(private readonly terminal: Terminal, private readonly devices: KnownDevices, private readonly open: (line: string) => void) {}

  provideLinks(row: number, callback: (links: ILink[] | undefined) => void): void {
    const { text, places } = this.lineAround(row - 1);
    const links: ILink[] = [];
    for (const { index, 0: id } of text.matchAll(TASK_ID)) links.push(this.link(places, index, id, "tasks"));
    for (const [index, id] of this.devices.in(text)) links.push(this.link(places, index, id, "devices"));
    callback(links);
  }

  private link(places: readonly [number, number][], index: number, id: string, kind: Listing["kind"]): ILink {
    const [start, end] = [places[index] as [number, number], places[index + id.length - 1] as [number, number]];
    const range = { start: { x: start[0] + 1, y: start[1] + 1 }, end: { x: end[0] + 1, y: end[1] + 1 } };
    const activate = (event: MouseEvent) => {
      if (event.ctrlKey || event.metaKey) window.open(`/#/${kind}/${encodeURIComponent(id)}`, "_blank", "noopener");
      else this.open(`${kind} show ${quoted(id)}`);
    };
    return { range, text: id, activate };
  }

  /** The whole line that a row is part of, and the column and row of each of its characters. */
  private lineAround(row: number): { text: string; places: [number, number][] } {
    const buffer = this.terminal.buffer.active;
    let first = row;
    while (first > 0 && buffer.getLine(first)?.isWrapped) first -= 1;
    let text = "";
    const places: [number, number][] = [];
    for (let at = first; at < buffer.length && (at === first || buffer.getLine(at)?.isWrapped); at += 1) {
      text += charactersOf(buffer.getLine(at) as IBufferLine, at, places);
    }
    return { text, places };
  }
}

function charactersOf(line: IBufferLine, row: number, places: [number, number][]): string {
  let text = "";
  for (let column = 0; column < line.length; column += 1) {
    const cell = line.getCell(column);
    if (!cell || cell.getWidth() === 0) continue;
    const characters = cell.getChars() || " ";
    text += characters;
    for (let unit = 0; unit < characters.length; unit += 1) places.push([column, row]);
  }
  return text;
}

function quoted(id: string): string {
  return /^[\w.:@-]+$/.test(id) ? id : `'${id.replaceAll("'", `'\\''`)}'`;
}
