// The four themes. Each colours the terminal and, through variables of the style sheet, the page around it.
import type { ITheme } from "@xterm/xterm";

interface Theme {
  dark: boolean;
  contrast: number;
  page: { bar: string; line: string; text: string; muted: string; accent: string; good: string; wait: string; bad: string };
  screen: ITheme;
}

export const THEMES: Readonly<Record<string, Theme>> = {
  matrix: {
    dark: true,
    contrast: 4.5,
    page: { bar: "#04140a", line: "#0f3a20", text: "#8df5a9", muted: "#4f9c68", accent: "#2cff6e", good: "#2cff6e", wait: "#e2e35a", bad: "#ff6b6b" },
    screen: {
      background: "#020a05", foreground: "#6fe58d", cursor: "#2cff6e", cursorAccent: "#020a05",
      selectionBackground: "#1f6b3c", black: "#0a1f12", red: "#ff6b6b", green: "#2cff6e", yellow: "#e2e35a",
      blue: "#5fb3a3", magenta: "#b6e36a", cyan: "#58f0c8", white: "#b8f5c9", brightBlack: "#4f9c68",
      brightRed: "#ff8f8f", brightGreen: "#7dffa6", brightYellow: "#f3f39a", brightBlue: "#8fd6c9",
      brightMagenta: "#d0f39a", brightCyan: "#98ffe4", brightWhite: "#eafff0",
    },
  },
  amber: {
    dark: true,
    contrast: 4.5,
    page: { bar: "#1a1004", line: "#4a3210", text: "#ffc566", muted: "#a97b35", accent: "#ffb000", good: "#d5e36a", wait: "#ffd76b", bad: "#ff7a5c" },
    screen: {
      background: "#0f0902", foreground: "#f5b04a", cursor: "#ffb000", cursorAccent: "#0f0902",
      selectionBackground: "#6b4610", black: "#261804", red: "#ff7a5c", green: "#d5e36a", yellow: "#ffd76b",
      blue: "#d9a05f", magenta: "#ff9e7d", cyan: "#ffe0a3", white: "#ffdfae", brightBlack: "#a97b35",
      brightRed: "#ff9e88", brightGreen: "#e6f09a", brightYellow: "#ffe9a8", brightBlue: "#ecc08c",
      brightMagenta: "#ffbca5", brightCyan: "#fff0cf", brightWhite: "#fff6e6",
    },
  },
  blue: {
    dark: true,
    contrast: 4.5,
    page: { bar: "#0d1b33", line: "#24406e", text: "#c9dcff", muted: "#7f9bcb", accent: "#6db3ff", good: "#7ee2a8", wait: "#ffd479", bad: "#ff8a8a" },
    screen: {
      background: "#081226", foreground: "#c3d6f7", cursor: "#6db3ff", cursorAccent: "#081226",
      selectionBackground: "#2b4f8c", black: "#152644", red: "#ff8a8a", green: "#7ee2a8", yellow: "#ffd479",
      blue: "#7db8ff", magenta: "#d6a6ff", cyan: "#7fe3f5", white: "#dbe7fb", brightBlack: "#7f9bcb",
      brightRed: "#ffb0b0", brightGreen: "#a8f0c6", brightYellow: "#ffe4a8", brightBlue: "#a9d0ff",
      brightMagenta: "#e6c9ff", brightCyan: "#b0f0fb", brightWhite: "#ffffff",
    },
  },
  contrast: {
    dark: true,
    contrast: 7,
    page: { bar: "#000000", line: "#ffffff", text: "#ffffff", muted: "#e0e0e0", accent: "#ffff00", good: "#00ff66", wait: "#ffff00", bad: "#ff9a9a" },
    screen: {
      background: "#000000", foreground: "#ffffff", cursor: "#ffff00", cursorAccent: "#000000",
      selectionBackground: "#ffffff", selectionForeground: "#000000", black: "#000000", red: "#ff9a9a",
      green: "#00ff66", yellow: "#ffff00", blue: "#9ecbff", magenta: "#ff9dff", cyan: "#00ffff", white: "#ffffff",
      brightBlack: "#e0e0e0", brightRed: "#ffb8b8", brightGreen: "#7dffb0", brightYellow: "#ffff80",
      brightBlue: "#c4e0ff", brightMagenta: "#ffc4ff", brightCyan: "#80ffff", brightWhite: "#ffffff",
    },
  },
};
export const THEME_NAMES = Object.keys(THEMES);

export function themeNamed(name: string): Theme {
  return THEMES[name] ?? (THEMES.matrix as Theme);
}

/** Colour the page around the terminal. */
export function dressPage(name: string): void {
  const root = document.documentElement;
  const { page, screen } = themeNamed(name);
  root.dataset.theme = name;
  for (const [variable, colour] of Object.entries({ ...page, screen: screen.background as string })) {
    root.style.setProperty(`--${variable}`, colour);
  }
}
