// Form fields from a JSON Schema: what is asked, and what of it becomes the payload.
import { attributes, element } from "/static/dom.js";

const LONG = 1000;

/** What a field is, of a property of an object's schema: text, long, lines, number, choice, truth or json. */
export function kindOf(schema) {
  const options = (schema.anyOf ?? [schema]).filter((each) => each.type !== "null");
  const plain = options.find((each) => each.type === "string") ?? options[0] ?? {};
  if (plain.enum) return { kind: "choice", schema: plain };
  if (plain.type === "string") {
    const free = !plain.pattern && !plain.format && (plain.maxLength ?? LONG + 1) > LONG;
    return { kind: free ? "long" : "text", schema: plain };
  }
  if (plain.type === "integer" || plain.type === "number") return { kind: "number", schema: plain };
  if (plain.type === "boolean") return { kind: "truth", schema: plain };
  if (plain.type === "array" && plain.items?.type === "string") return { kind: "lines", schema: plain };
  return { kind: "json", schema: plain };
}

const HINTS = { lines: "one a line", json: "as JSON, or plain text" };

/** A labelled input for a property. `read()` gives its value (undefined: left out), `fail(message)` shows what is wrong. */
export function makeField(name, property, required, path) {
  const { kind, schema } = kindOf(property);
  const id = `field-${path.replaceAll(/[^\w]/g, "-")}`;
  const input = attributes(inputOf(kind, schema, property), {
    id, name: path, "aria-describedby": `${id}-help ${id}-error`, "aria-required": required ? "true" : null,
  });
  const label = attributes(element("label", "", name, required ? element("span", "needed", " needed") : null), { for: id });
  const help = element("p", "sub", [property.description ?? schema.description, schema.type === "object" ? "as JSON" : HINTS[kind], limits(schema)].filter(Boolean).join("; "));
  help.id = `${id}-help`;
  const error = attributes(element("p", "field-error"), { id: `${id}-error` });
  const box = element("div", `field ${kind}`, label, input, error, help);
  return {
    path, box, input,
    read: () => valueOf(kind, schema, input),
    fail(message) {
      error.textContent = message;
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
}

function limits({ minimum, maximum, type }) {
  if (type !== "integer" && type !== "number") return "";
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum.toLocaleString("en")}`;
  return minimum !== undefined ? `at least ${minimum}` : "";
}

function inputOf(kind, schema, property) {
  if (kind === "choice" || kind === "truth") {
    const values = kind === "choice" ? schema.enum : ["true", "false"];
    const usual = property.default === undefined ? "as usual" : `as usual (${property.default})`;
    return element("select", "", ...[["", usual], ...values.map((each) => [each, each])].map(([value, text]) => {
      const option = element("option", "", text);
      option.value = value;
      return option;
    }));
  }
  if (kind === "long" || kind === "lines" || kind === "json") {
    return attributes(element("textarea"), { rows: "2", spellcheck: "false", autocomplete: "off" });
  }
  const placeholder = property.default === undefined || property.default === null ? null : String(property.default);
  return attributes(element("input"), { type: "text", inputmode: kind === "number" ? "decimal" : null, placeholder, autocomplete: "off", spellcheck: "false" });
}

function valueOf(kind, schema, input) {
  const text = input.value;
  if (kind === "lines") {
    const lines = text.split("\n").filter((each) => each !== "");
    return lines.length ? lines : undefined;
  }
  if (text.trim() === "") return undefined;
  if (kind === "number") return Number.isFinite(Number(text)) ? Number(text) : text; // what is no number is refused by the main
  if (kind === "truth") return text === "true";
  if (kind !== "json") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
