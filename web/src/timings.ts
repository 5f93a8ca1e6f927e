// How quick the page is, in its own clock: from a key to its echo on the screen, and the longest time between frames.

const KEPT = 500;

export class Timings {
  private keyAt = 0;
  private isWritten = false;
  private echoes: number[] = [];
  private longestFrame = 0;
  private watching = false;

  /** A key went down, at a time of performance.now(). */
  keyed(at: number): void {
    this.keyAt ||= at;
  }

  /** The line with the key in it was handed to the screen. */
  written(): void {
    this.isWritten = this.keyAt > 0;
  }

  /** The screen was drawn: the key before it is seen with this frame. */
  drawn(): void {
    if (!this.isWritten) return;
    const keyAt = this.keyAt;
    this.keyAt = 0;
    this.isWritten = false;
    requestAnimationFrame(() => {
      this.echoes.push(performance.now() - keyAt);
      if (this.echoes.length > KEPT) this.echoes.shift();
    });
  }

  /** Milliseconds from each of the last keys to its echo, and the longest frame since the last call. */
  take(): { echoMs: number[]; longestFrameMs: number } {
    const found = { echoMs: this.echoes, longestFrameMs: this.longestFrame };
    this.echoes = [];
    this.longestFrame = 0;
    this.watchFrames();
    return found;
  }

  /** From the first call of `take` on; a page that nobody measures has no timer for each frame. */
  private watchFrames(): void {
    if (this.watching) return;
    this.watching = true;
    let last = performance.now();
    const frame = (now: number) => {
      this.longestFrame = Math.max(this.longestFrame, now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
}
