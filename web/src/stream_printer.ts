// Commands that go on: shows what a stream tells until it has ended, or until enough has happened.
import type { StreamSpec } from "./api";
import { dim, eventLine, toned } from "./event_lines";
import type { Follower, StreamEvent } from "./events";
import { SafeText, safeLine } from "./safe_text";
import type { Screen } from "./screen";

const DRAW_MS = 40;
/** Lines that one drawing shows; nobody reads faster, and the page has to stay quick. */
const LINES_AT_ONCE = 400;

export class StreamPrinter implements Follower {
  /** As exit codes of commands: 0, or 1 where a task did not complete. */
  exitCode = 0;
  private readonly waitedFor: Set<string> | null;
  private readonly output: Record<string, SafeText> = {};
  private lines: string[] = [];
  private left = 0;
  private timer = 0;

  constructor(private readonly screen: Screen, private readonly spec: StreamSpec, private readonly format: string) {
    this.waitedFor = spec.until ? new Set(spec.until.task_ids) : null;
  }

  event(event: StreamEvent): boolean {
    if (event.name === "reset") return this.began(event);
    if (event.name === "dropped") return this.say(dim(`— ${safeLine(String(event.data.reason ?? "the page was too slow; some events are missing"))}`));
    if (event.name === "output") return this.printed(event);
    if (event.name === "end") return this.ended(event);
    if (!this.spec.events.includes(event.name)) return false;
    return this.waitedFor ? this.awaited(event, this.waitedFor) : this.say(eventLine(event, this.format));
  }

  lost(): void {
    this.say(dim("— the connection to the main is lost; trying again"));
  }

  back(): void {
    this.say(dim("— connected again"));
  }

  /** Show what waits to be shown. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = 0;
    const lines = this.lines;
    this.lines = [];
    if (this.left) lines.unshift(dim(`… ${this.left.toLocaleString("en")} events came too fast to be shown`) + "\n");
    this.left = 0;
    if (lines.length) this.screen.print(lines.join(""));
  }

  /** The stream is over, however it ended. */
  close(): void {
    this.flush();
    const rest = Object.values(this.output).map((each) => each.flush()).join("");
    if (rest) this.screen.print(rest);
  }

  private say(line: string): boolean {
    return this.add(`${line}\n`);
  }

  private add(text: string): boolean {
    this.lines.push(text);
    if (this.lines.length > LINES_AT_ONCE && !this.spec.events.includes("output")) {
      this.lines.shift();
      this.left += 1;
    }
    this.timer ||= window.setTimeout(() => this.flush(), DRAW_MS);
    return false;
  }

  private began(event: StreamEvent): boolean {
    this.say(dim(`— ${safeLine(String(event.data.reason ?? "it begins anew"))}`));
    const { task, tasks } = event.data;
    const known = (Array.isArray(tasks) ? tasks : task ? [task] : []) as Record<string, unknown>[];
    const waitedFor = this.waitedFor;
    // What has ended while nobody listened stands in the present state.
    return waitedFor !== null && known.some((data) => this.awaited({ ...event, data }, waitedFor));
  }

  private printed({ data }: StreamEvent): boolean {
    const stream = data.stream === "stderr" ? "stderr" : "stdout";
    const safe = (this.output[stream] ??= new SafeText());
    return this.add(safe.feed(String(data.data ?? "")));
  }

  private ended({ data }: StreamEvent): boolean {
    this.close();
    this.screen.endLine();
    const status = String(data.status ?? "ended");
    this.exitCode = status === "completed" ? 0 : 1;
    const code = typeof data.exit_code === "number" ? `, exit code ${data.exit_code}` : "";
    const took = typeof data.execution_time === "number" ? `, ${data.execution_time.toFixed(1)} s` : "";
    const error = data.error as { message?: unknown } | string | null;
    const why = typeof error === "string" ? error : error?.message;
    this.say(`${dim("—")} ${toned(safeLine(status))}${dim(`${code}${took}`)}${why && status !== "completed" ? `: ${safeLine(String(why))}` : ""}`);
    return true;
  }

  private awaited(event: StreamEvent, waitedFor: Set<string>): boolean {
    const [id, status] = [String(event.data.task_id ?? ""), String(event.data.status ?? "")];
    if (!waitedFor.has(id) || !this.spec.until?.status.includes(status)) return false;
    waitedFor.delete(id);
    if (status !== "completed") this.exitCode = 1;
    const reason = typeof event.data.reason === "string" && event.data.reason ? `: ${safeLine(event.data.reason)}` : "";
    this.say(`${safeLine(id)}  ${toned(status)}${reason}`);
    return waitedFor.size === 0;
  }
}
