// Draws the prompt and the line that is being typed, over as many rows as it takes.
import { codeWidth } from "./widths";

interface Place {
  row: number;
  column: number;
}

/** Where the cursor stands after each part, as the terminal wraps. */
function placeAfter(text: string, columns: number, from: Place): Place {
  let { row, column } = from;
  for (const character of text) {
    const width = codeWidth(character.codePointAt(0) as number);
    if (column + width > columns) {
      row += 1;
      column = 0;
    }
    column += width;
  }
  return { row, column };
}

export class LineView {
  private cursorRow = 0;

  /** What to write so that prompt and line stand where the last ones stood. `prompt` may have colours. */
  draw(prompt: string, promptText: string, text: string, cursor: number, columns: number): string {
    const up = this.toStart();
    const start = placeAfter(promptText, columns, { row: 0, column: 0 });
    const end = placeAfter(text, columns, start);
    let at = placeAfter(text.slice(0, cursor), columns, start);
    // In the last column a terminal waits with wrapping; a blank that is taken back makes it wrap now.
    const wrap = end.column === columns ? " \b\x1b[K" : "";
    const last = wrap ? { row: end.row + 1, column: 0 } : end;
    if (at.column === columns) at = { row: at.row + 1, column: 0 };
    const back = last.row - at.row;
    this.cursorRow = at.row;
    return `${up}\x1b[J\x1b[0m${prompt}${text}${wrap}${back ? `\x1b[${back}A` : ""}\r${at.column ? `\x1b[${at.column}C` : ""}`;
  }

  /** What to write so that prompt and line are gone, and the cursor stands where they stood. */
  erase(): string {
    const up = this.toStart();
    this.cursorRow = 0;
    return `${up}\x1b[J`;
  }

  /** The line stays; what comes next stands below it. */
  leave(): void {
    this.cursorRow = 0;
  }

  private toStart(): string {
    return `\r${this.cursorRow ? `\x1b[${this.cursorRow}A` : ""}`;
  }
}
