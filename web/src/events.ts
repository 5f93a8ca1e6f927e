// Server-sent events over fetch: unlike EventSource it carries a token, says why it was refused, and stops at once.
import { ApiError, isAbort, request } from "./api";

export interface StreamEvent {
  name: string;
  id: string;
  data: Record<string, unknown>;
}

const FASTEST_RETRY_MS = 500;
const SLOWEST_RETRY_MS = 5000;

/** What a follower is told. `event` returns true to end the stream. */
export interface Follower {
  event(event: StreamEvent): boolean;
  lost(): void;
  back(): void;
}

/** Reads events out of text that arrives in pieces. */
export class EventParser {
  lastId = "";
  private held = "";

  feed(text: string): StreamEvent[] {
    const blocks = (this.held + text).split("\n\n");
    this.held = blocks.pop() ?? "";
    return blocks.flatMap((block) => this.parsed(block));
  }

  private parsed(block: string): StreamEvent[] {
    let name = "message";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) this.lastId = line.slice(4);
      else if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (!data) return [];
    try {
      return [{ name, id: this.lastId, data: JSON.parse(data) as Record<string, unknown> }];
    } catch {
      return []; // Not from our main; what comes after it may be.
    }
  }
}

const pause = (ms: number, signal: AbortSignal) =>
  new Promise<void>((done, failed) => {
    const ended = () => failed(new DOMException("stopped", "AbortError"));
    if (signal.aborted) return ended();
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", ended);
      done();
    }, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), ended()), { once: true });
  });

/** Follow a stream, also over a main that restarts, until the follower has enough. Throws ApiError, AbortError. */
export async function follow(address: string, follower: Follower, signal: AbortSignal): Promise<void> {
  let lastId = "";
  let retryMs = FASTEST_RETRY_MS;
  let isLost = false;
  for (;;) {
    try {
      const heads: Record<string, string> = { Accept: "text/event-stream" };
      if (lastId) heads["Last-Event-ID"] = lastId;
      const response = await request(address, { headers: heads, signal, cache: "no-store" });
      if (isLost) follower.back();
      isLost = false;
      retryMs = FASTEST_RETRY_MS;
      const parser = new EventParser();
      parser.lastId = lastId;
      const hadEnough = await readAll(response, parser, follower);
      lastId = parser.lastId;
      if (hadEnough) return;
    } catch (error) {
      if (isAbort(error) || signal.aborted) throw error;
      if (error instanceof ApiError && !error.mainIsGone && error.status !== 503 && error.status !== 429) throw error;
    }
    if (!isLost) follower.lost();
    isLost = true;
    await pause(retryMs, signal);
    retryMs = Math.min(2 * retryMs, SLOWEST_RETRY_MS);
  }
}

/** Whether the follower had enough; false where the connection ended. */
async function readAll(response: Response, parser: EventParser, follower: Follower): Promise<boolean> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      for (const event of parser.feed(decoder.decode(value, { stream: true }))) {
        if (follower.event(event)) return true;
      }
    }
  } catch (error) {
    if (isAbort(error)) throw error;
    return false;
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
