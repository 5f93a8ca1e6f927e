// The line above the terminal: how the cluster is, asked for every few seconds, and whether the main answers at all.
import { ApiError, get } from "./api";
import { element } from "./elements";

const POLL_MS = 2500;

interface Status {
  state: string;
  version: string;
  cluster_id: string;
  incarnation: number;
  devices: Record<string, number>;
  tasks: Record<string, number>;
  quiet: { reason?: string } | null;
}

interface Health {
  problems: string[];
}

/** One part of the line: its class, its text, and more to say where the pointer rests. */
type Part = [name: string, text: string, more?: string];

/** What is told to the page: that the main is gone, or back (and whether it was started anew). */
export interface Watcher {
  gone(): void;
  back(restarted: boolean): void;
}

const sum = (counts: Record<string, number>, names: readonly string[]) => names.reduce((all, name) => all + (counts[name] ?? 0), 0);

/** What a person should look at now, in few words each. */
function alertsOf({ devices, tasks, quiet }: Status, health: Health | null): string[] {
  const counted = (count: number, what: string) => (count ? [`${count} ${what}`] : []);
  return [
    ...(health?.problems ?? []),
    ...counted(sum(devices, ["suspect", "quarantined"]), "devices not trusted at the moment"),
    ...counted(sum(devices, ["offline", "disconnected"]), "devices away"),
    ...counted(tasks.held ?? 0, "tasks held back for a person to look at"),
    ...(quiet ? [quiet.reason || "the cluster is quiet"] : []),
  ];
}

export class Banner {
  private isGone = false;
  private incarnation = 0;
  private asking = false;
  private said = "";

  constructor(private readonly element: HTMLElement, private readonly watcher: Watcher) {
    setInterval(() => void this.ask(), POLL_MS);
    document.addEventListener("visibilitychange", () => void this.ask());
  }

  /** Ask the main now. */
  async ask(): Promise<void> {
    if (this.asking || (document.hidden && this.incarnation)) return;
    this.asking = true;
    try {
      const [status, health] = await Promise.all([get<Status>("cluster/status"), get<Health>("cluster/health").catch(() => null)]);
      this.answered(status, health);
    } catch (error) {
      this.failed(error);
    } finally {
      this.asking = false;
    }
  }

  private answered(status: Status, health: Health | null): void {
    const restarted = this.incarnation > 0 && status.incarnation !== this.incarnation;
    this.incarnation = status.incarnation;
    if (this.isGone || restarted) this.watcher.back(restarted);
    this.isGone = false;
    const { devices, tasks } = status;
    const online = devices.online ?? 0;
    const alerts = alertsOf(status, health);
    this.show(health?.problems.length ? "bad" : online ? "good" : "wait", [
      ["state", status.state],
      ["devices", `${online}/${devices.total ?? 0} online`],
      ["running", `${sum(tasks, ["running", "cancelling"])} running`],
      ["waiting", `${sum(tasks, ["blocked", "queued", "retrying", "assigned"])} waiting`],
      ["failed", `${sum(tasks, ["failed", "lost", "expired"])} failed`],
      ["alerts", alerts.length ? `${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}` : "", alerts.join("\n")],
    ]);
  }

  private failed(error: unknown): void {
    if (error instanceof ApiError && !error.mainIsGone) {
      this.show("wait", [["state", error.message]]);
      return;
    }
    if (!this.isGone && this.incarnation) this.watcher.gone();
    this.isGone = true;
    this.show("bad", [["state", "The main does not answer; trying again"]]);
  }

  private show(tone: string, parts: Part[]): void {
    const made = parts.filter(([, text]) => text).map(([name, text, more]) => {
      const part = element("span", { className: `part ${name}` }, text);
      if (more) part.title = more;
      return part;
    });
    this.element.dataset.tone = tone;
    // Only what has changed is put in, so that readers of screens are not told the same again.
    const said = made.map((each) => `${each.textContent}${each.title}`).join("|");
    if (said !== this.said) this.element.replaceChildren(...made);
    this.said = said;
  }
}
