// A browser with the phone page, driven from standard input: a line of JSON `[command, argument…]` in, a line of JSON
// `{result}` or `{error}` out. Ends with its input. Usage: node phone.mjs CHROMIUM [SWITCH…]

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

import { eavesdrop } from "./eavesdrop.mjs";

const TIMEOUT_MS = 10_000;

const [executablePath, ...switches] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: switches });
/// What the browser complained of: errors on the console, exceptions, violations of the policy.
const complaints = [];
let page;

const commands = {
  /// Opens an address in a fresh tab of `options` (viewport, colour scheme …).
  async open(url, options) {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(TIMEOUT_MS);
    page = await context.newPage();
    page.on("console", (message) => {
      console.error(`${message.type()}: ${message.text()}`);
      // The deprecated node is ours.
      const ours = message.text().includes("ScriptProcessorNode");
      if (["error", "warning"].includes(message.type()) && !ours) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.addInitScript(eavesdrop);
    await page.goto(url);
  },
  leave: () => page.goto("about:blank"),
  click: (selector) => page.click(selector),
  fill: (selector, text) => page.fill(selector, text),
  select: (selector, value) => page.selectOption(selector, value),
  key: (key) => page.keyboard.press(key),
  resize: (width, height) => page.setViewportSize({ width, height }),
  screenshot: (path) => page.screenshot({ path }),
  /// Evaluates an expression in the page.
  evaluate: (expression) => page.evaluate(expression),
  /// What a caller sees. Nothing of what is hidden.
  seen: () =>
    page.evaluate(() => {
      const text = (selector) =>
        [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility()).map((each) => each.innerText)[0] ?? "";
      return {
        status: text("#status"),
        problem: text("#problem"),
        interim: text("#interim"),
        clock: text("#clock"),
        lines: [...document.querySelectorAll("#transcript > li")].map((line) => ({
          who: ["caller", "agent", "keys", "note"].filter((each) => line.classList.contains(each)).at(-1),
          // The words without who said them and without remarks.
          words: [...line.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join(""),
          marks: [...line.querySelectorAll(".marks > span")].map((mark) => mark.textContent),
        })),
        focus: document.activeElement?.id ?? "",
        levels: ["#level-caller", "#level-agent"].map((bar) => new DOMMatrix(getComputedStyle(document.querySelector(bar)).transform).a),
      };
    }),
  /// What the last call has received: 16-bit samples at 8 kHz in base64, and its events, each with the sample at which it came.
  received: () => page.evaluate(() => window.eavesdropper.received()),
  complaints: async () => [...complaints, ...(await page.evaluate(() => window.eavesdropper?.violations ?? []))],
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...parameters] = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await commands[command](...parameters)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
