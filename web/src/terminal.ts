// The page of the terminal: puts its parts together.
import "./strict_styles";
import { get, type CommandRow } from "./api";
import { Banner } from "./banner";
import { byId, element } from "./elements";
import { dim } from "./event_lines";
import { KnownDevices } from "./links";
import { learnTable } from "./local_commands";
import type { Page } from "./session";
import { History, Settings } from "./settings";
import { Tabs } from "./tabs";
import { dressPage, THEME_NAMES } from "./themes";
import { Timings } from "./timings";
import { textWidth } from "./widths";

const TOUCH_KEYS: readonly [string, string, string][] = [
  ["Tab", "\t", "complete the word"],
  ["↑", "\x1b[A", "the line before"],
  ["↓", "\x1b[B", "the line after"],
  ["Ctrl+R", "\x12", "search the lines before"],
  ["Ctrl+C", "\x03", "stop"],
];
const WELCOME = [
  "\x1b[1mretire-cluster\x1b[0m",
  dim("help lists the commands, Tab completes, Ctrl+R searches, Ctrl+C stops."),
  "",
  "",
].join("\n");

const devices = new KnownDevices();
const timings = new Timings();
const settings = new Settings(THEME_NAMES, (name) => name === "theme" && wear());
const page: Page = {
  settings,
  history: new History(),
  closed(session) {
    tabs.close(session);
    if (tabs.isEmpty) location.assign("/");
  },
  listed: (listing) => devices.learn(listing),
  titled: (session, title) => tabs.titled(session, title),
};
const tabs = new Tabs(byId("tabs"), byId("screens"), page, devices, timings);

function wear(): void {
  const theme = settings.get("theme");
  dressPage(theme);
  tabs.wear(theme);
  byId<HTMLSelectElement>("theme").value = theme;
}

function fillThemes(): void {
  const select = byId<HTMLSelectElement>("theme");
  select.append(...THEME_NAMES.map((name) => element("option", { value: name }, name)));
  select.addEventListener("change", () => {
    settings.set("theme", select.value);
    tabs.session.screen.terminal.focus();
  });
}

function fillTouchKeys(): void {
  for (const [label, sequence, title] of TOUCH_KEYS) {
    const button = element("button", { type: "button", title }, label);
    button.addEventListener("click", () => {
      tabs.session.typed(sequence);
      tabs.session.screen.terminal.focus();
    });
    byId("keys").append(button);
  }
}

/** What the page tells programs about itself: tests, and aids that read screens. It changes nothing. */
const told = Object.freeze({
  /** The text that can be seen in the present tab, a line each. */
  screen: () => tabs.session.screen.text(true),
  /** All text of the present tab that is kept. */
  buffer: () => tabs.session.screen.text(false),
  /** The line at the prompt, and the cursor's place in it. */
  line: () => ({ text: tabs.session.reader.editor.text, cursor: tabs.session.reader.editor.cursor }),
  /** Whether a command runs. */
  busy: () => tabs.session.busy,
  tabs: () => tabs.titles,
  theme: () => settings.get("theme"),
  size: () => ({ columns: tabs.session.screen.terminal.cols, rows: tabs.session.screen.terminal.rows }),
  width: (text: string) => textWidth(text),
  timings: () => timings.take(),
});
declare global {
  interface Window {
    retireTerminal: typeof told;
  }
}

async function start(): Promise<void> {
  fillThemes();
  fillTouchKeys();
  dressPage(settings.get("theme"));
  tabs.open(WELCOME);
  wear();
  byId("new-tab").addEventListener("click", () => tabs.open(WELCOME));
  const watcher = {
    gone: () => tabs.sessions.forEach((each) => each.notice("the main does not answer; it is asked again every few seconds")),
    back: (restarted: boolean) =>
      tabs.sessions.forEach((each) => each.notice(restarted ? "connected again; the main was restarted" : "connected again")),
  };
  const banner = new Banner(byId("state"), watcher);
  window.retireTerminal = told;
  await banner.ask();
  const { commands } = await get<{ commands: CommandRow[] }>("commands").catch(() => ({ commands: [] }));
  learnTable(commands);
}

void start();
