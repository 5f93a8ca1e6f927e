// The tabs: one terminal each, of which one is seen.
import { element } from "./elements";
import { IdLinks, type KnownDevices } from "./links";
import { Screen } from "./screen";
import { Session, type Page } from "./session";
import type { Timings } from "./timings";

const MOST_TABS = 12;
const RESIZE_PAUSE_MS = 150;
const TITLE_CHARS = 24;

interface Tab {
  session: Session;
  button: HTMLElement;
  label: HTMLElement;
  panel: HTMLElement;
}

export class Tabs {
  private tabs: Tab[] = [];
  private current: Tab | null = null;
  private count = 0;
  private resizing = 0;

  constructor(
    private readonly list: HTMLElement,
    private readonly panels: HTMLElement,
    private readonly page: Page,
    private readonly devices: KnownDevices,
    private readonly timings: Timings,
  ) {
    list.addEventListener("keydown", (event) => this.keyInList(event));
    new ResizeObserver(() => this.resizedSoon()).observe(panels);
  }

  get session(): Session {
    return (this.current as Tab).session;
  }

  get titles(): string[] {
    return this.tabs.map((each) => each.label.textContent ?? "");
  }

  /** Every session, seen or not. */
  get sessions(): Session[] {
    return this.tabs.map((each) => each.session);
  }

  /** Open one more, and look at it. */
  open(welcome: string): Session {
    if (this.tabs.length >= MOST_TABS) {
      this.session.notice(`${MOST_TABS} tabs are open; close one with exit`);
      return this.session;
    }
    this.count += 1;
    const panel = element("div", { className: "panel", id: `panel-${this.count}`, role: "tabpanel" });
    this.panels.append(panel);
    this.current?.panel.classList.remove("seen");
    panel.classList.add("seen");
    const screen = new Screen(panel, this.page.settings.get("theme"));
    const session = new Session(screen, this.page);
    const tab = { session, panel, ...this.buttonOf(session, panel.id) };
    this.tabs.push(tab);
    this.listen(screen, session);
    this.look(tab);
    session.start(welcome);
    return session;
  }

  close(session: Session): void {
    const at = this.tabs.findIndex((each) => each.session === session);
    const [tab] = this.tabs.splice(at, 1);
    if (!tab) return;
    session.close();
    session.screen.terminal.dispose();
    tab.button.remove();
    tab.panel.remove();
    const next = this.tabs[Math.min(at, this.tabs.length - 1)];
    if (next) this.look(next);
  }

  get isEmpty(): boolean {
    return this.tabs.length === 0;
  }

  titled(session: Session, title: string): void {
    const tab = this.tabs.find((each) => each.session === session);
    if (!tab) return;
    tab.label.textContent = title ? title.slice(0, TITLE_CHARS) : "terminal";
    tab.button.classList.toggle("busy", title !== "");
  }

  wear(theme: string): void {
    for (const { session } of this.tabs) session.screen.wear(theme);
  }

  private buttonOf(session: Session, panelId: string): { button: HTMLElement; label: HTMLElement } {
    const label = element("span", { className: "label" }, "terminal");
    const button = element("button", { className: "tab", type: "button", role: "tab" }, label);
    button.setAttribute("aria-controls", panelId);
    button.addEventListener("click", () => this.look(this.tabs.find((each) => each.session === session) as Tab));
    button.addEventListener("auxclick", (event) => event.button === 1 && this.page.closed(session));
    this.list.append(button);
    return { button, label };
  }

  private look(tab: Tab): void {
    this.current = tab;
    for (const each of this.tabs) {
      const seen = each === tab;
      each.panel.classList.toggle("seen", seen);
      each.button.setAttribute("aria-selected", String(seen));
      each.button.tabIndex = seen ? 0 : -1;
    }
    tab.session.screen.resize();
    tab.session.screen.terminal.focus();
  }

  private keyInList(event: KeyboardEvent): void {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    const at = this.tabs.indexOf(this.current as Tab);
    const tab = this.tabs[(at + step + this.tabs.length) % this.tabs.length] as Tab;
    this.look(tab);
    tab.button.focus();
  }

  private resizedSoon(): void {
    clearTimeout(this.resizing);
    this.resizing = window.setTimeout(() => this.current?.session.screen.resize(), RESIZE_PAUSE_MS);
  }

  /** What a terminal tells of itself. */
  private listen(screen: Screen, session: Session): void {
    const { terminal } = screen;
    terminal.onData((data) => session.typed(data));
    screen.drew = () => this.timings.written();
    terminal.onRender(() => this.timings.drawn());
    terminal.registerLinkProvider(new IdLinks(terminal, this.devices, (line) => session.submit(line)));
    let columns = terminal.cols;
    terminal.onResize(({ cols }) => {
      if (cols !== columns) void session.resized();
      columns = cols;
    });
    terminal.attachCustomKeyEventHandler((event) => this.key(event, session));
    const paste = (event: ClipboardEvent) => {
      event.preventDefault();
      event.stopPropagation();
      void session.paste(event.clipboardData?.getData("text/plain") ?? "");
    };
    screen.element.addEventListener("paste", paste, { capture: true });
  }

  /** Whether the terminal gets a key; copying and pasting are the browser's. */
  private key(event: KeyboardEvent, session: Session): boolean {
    if (event.type !== "keydown") return true;
    if (session.reader.active) this.timings.keyed(performance.now());
    const { terminal } = session.screen;
    const letter = event.key.toLowerCase();
    if (event.ctrlKey && !event.altKey && letter === "v") return false;
    if (event.ctrlKey && !event.altKey && letter === "c" && terminal.hasSelection()) {
      // After the browser has copied it.
      setTimeout(() => terminal.clearSelection());
      return false;
    }
    // Shift+Tab leaves the terminal: who uses the keyboard alone is not caught in it.
    return !(event.key === "Tab" && event.shiftKey);
  }
}
