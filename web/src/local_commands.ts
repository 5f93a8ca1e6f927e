// The commands that the terminal does itself. Their names are those that the table of commands gives to it alone.
import type { CommandRow } from "./api";
import type { Session } from "./session";
import type { History, Name, Settings } from "./settings";

const HISTORY_SHOWN = 200;

/** What such a command works with. */
export interface Around {
  settings: Settings;
  history: History;
  session: Session;
  close(): void;
}

type Action = (words: readonly string[], around: Around) => string;

function set(words: readonly string[], { settings }: Around): string {
  const names: readonly Name[] = ["format", "theme", "colour"];
  if (!words.length) return names.map((each) => `${each.padEnd(8)}${settings.get(each).padEnd(10)}${settings.choices(each).join(" ")}\n`).join("");
  const name = names.find((each) => each === words[0]);
  if (!name) throw new Error(`there is no setting ${JSON.stringify(words[0])}; the settings are ${names.join(", ")}`);
  if (words.length > 2) throw new Error(`write: set ${name} ${settings.choices(name).join("|")}`);
  if (words[1] === undefined) return `${settings.get(name)}\n`;
  settings.set(name, words[1]);
  return "";
}

function theme(words: readonly string[], { settings }: Around): string {
  if (words.length > 1) throw new Error(`write: theme ${settings.choices("theme").join("|")}`);
  if (words[0] !== undefined) return settings.set("theme", words[0]) ?? "";
  return settings.choices("theme").map((each) => `${each === settings.get("theme") ? "*" : " "} ${each}\n`).join("");
}

function history(words: readonly string[], around: Around): string {
  if (words.length) throw new Error("history takes no words");
  const { lines } = around.history;
  const first = Math.max(0, lines.length - HISTORY_SHOWN);
  return lines.slice(first).map((line, at) => `${String(first + at + 1).padStart(5)}  ${line}\n`).join("");
}

const ACTIONS: Readonly<Record<string, Action>> = {
  set,
  theme,
  history,
  clear: (_, { session }) => (session.clear(), ""),
  exit: (_, { close }) => (close(), ""),
};

let table: readonly CommandRow[] = [];

/** Learn the names, with their aliases, of the commands that the main leaves to the terminal. */
export function learnTable(commands: readonly CommandRow[]): void {
  table = commands.filter((each) => each.doors.includes("terminal") && !each.doors.includes("http"));
}

/** The text of a command that the terminal does itself; null for one that is for the main. Throws Errors for people. */
export function runLocal(line: string, around: Around): string | null {
  const [name, ...words] = line.trim().split(/\s+/);
  const row = table.find((each) => each.name === name || each.aliases.includes(name ?? ""));
  const action = ACTIONS[row?.name ?? name ?? ""];
  if (!action) return null;
  // Help on one of them is the main's, as for all others.
  if (words.includes("--help") || words.includes("-h")) return null;
  return action(words, around);
}
