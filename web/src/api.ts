// What the main is asked. A token that was typed is kept in the memory of this page alone.
import { safeLine } from "./safe_text";

export interface Listing {
  kind: "devices" | "tasks";
  ids: string[];
}

/** Where a command goes on, and with `until` which tasks are waited for. */
export interface StreamSpec {
  address: string;
  events: string[];
  until?: { task_ids: string[]; status: string[] };
}

export interface CommandAnswer {
  output: string;
  exit_code: number;
  format: string;
  command: string | null;
  listed?: Listing;
  stream?: StreamSpec;
  again_s?: number;
}

export interface Completion {
  start: number;
  end: number;
  candidates: { text: string; doc: string }[];
}

export interface CommandRow {
  name: string;
  aliases: string[];
  role: string;
  doors: string[];
}

/** An answer that is an error; `status` 0 is a main that does not answer. The message is for people. */
export class ApiError extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }

  get mainIsGone(): boolean {
    return this.status === 0;
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

let token = "";

function headers(more: Record<string, string>): Record<string, string> {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** An answer that is a success. Throws ApiError, or an AbortError. */
export async function request(path: string, options: RequestInit & { headers?: Record<string, string> } = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers ?? {}), credentials: "same-origin" });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("The main does not answer.", 0);
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => ({}))) as { detail?: string };
  throw new ApiError(problem.detail || `the main answered ${response.status}`, response.status);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(`/api/v1/${path}`, { headers: { Accept: "application/json" }, cache: "no-cache", signal });
  return ((await response.json()) as { data: T }).data;
}

async function post(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  return request(path, options);
}

/** Run one line. */
export async function command(body: Record<string, unknown>, signal: AbortSignal): Promise<CommandAnswer> {
  const response = await post("/api/v1/command", body, signal);
  return ((await response.json()) as { data: CommandAnswer }).data;
}

/** What may stand at the cursor; places in the line are counted as JavaScript does. */
export async function complete(line: string, cursor: number): Promise<Completion> {
  const points = Array.from(line.slice(0, cursor)).length;
  const query = new URLSearchParams({ line, cursor: String(points) });
  const found = await get<Completion>(`command/complete?${query}`);
  const units = (place: number) => Array.from(line).slice(0, place).join("").length;
  // What is put into the line is drawn as it is: names that a terminal would obey are left to be typed.
  const candidates = found.candidates.filter((each) => safeLine(each.text) === each.text);
  return { candidates, start: units(found.start), end: units(found.end) };
}

/** Use a token from now on: as a session of this browser where the main has these, else in this page alone. */
export async function signIn(given: string): Promise<void> {
  token = "";
  try {
    await post("/login", { token: given });
  } catch (error) {
    if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 405)) throw unknown(error);
    await useHere(given);
  }
}

async function useHere(given: string): Promise<void> {
  token = given;
  try {
    await get("audit?limit=1");
  } catch (error) {
    token = "";
    throw unknown(error);
  }
}

/** A refusal in the words that fit a token which was just typed. */
function unknown(error: unknown): unknown {
  const refused = error instanceof ApiError && error.status === 401;
  return refused ? new ApiError("the main does not know this token", 401) : error;
}
