// A host of MCP Apps with the least it needs: shows the page of its argument in a sandbox that may load nothing, gives
// it an answer, and prints what a person sees and what the page told.
"use strict";
const { readFileSync } = require("node:fs");
const { chromium } = require("playwright-core");

const HOST = "http://host.test/";
const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'";
const ANSWER = {
  structuredContent: {
    // As wide as answers get: a name must stay readable beside its figures.
    columns: ["team", "cost", "tokens", "calls", "llm_calls", "errors", "unpriced_tokens", "previous_cost", "change",
      "change_percent"],
    rows: [
      ["<img src=x onerror=alert(1)>", "5.25", 40672135, 4006, 1066, 431, 579190, "18.1638963", "-12.9138963", "-71.1"],
      [null, "1.5", 2, 1, 1, 0, 0, "0", "1.5", null],
    ],
    total: { cost: "6.75", tokens: 40672137 },
    notes: ["<b>a note</b>"],
    currency: "USD",
  },
  content: [],
};

/** Runs in the host's page. */
async function host({ html, answer }) {
  const told = [];
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.style.cssText = "width: 800px; height: 400px";
  const ready = new Promise((resolve) => {
    window.addEventListener("message", ({ source, data }) => {
      if (source !== frame.contentWindow) return;
      told.push(data.method ?? "answer");
      if (data.method === "ui/initialize") {
        const result = { protocolVersion: data.params.protocolVersion, hostInfo: { name: "host", version: "1" },
          hostCapabilities: {}, hostContext: { theme: "dark" } };
        frame.contentWindow.postMessage({ jsonrpc: "2.0", id: data.id, result }, "*");
      }
      if (data.method === "ui/notifications/initialized") {
        frame.contentWindow.postMessage({ jsonrpc: "2.0", method: "ui/notifications/tool-result", params: answer }, "*");
        frame.contentWindow.postMessage({ jsonrpc: "2.0", id: 9, method: "ui/resource-teardown", params: {} }, "*");
      }
      if (data.id === 9) resolve();
    });
  });
  frame.srcdoc = html;
  document.body.append(frame);
  await ready;
  return told;
}

(async () => {
  const page = readFileSync(process.argv[2], "utf8");
  const html = page.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${POLICY}">`);
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const tab = await browser.newPage({ viewport: { width: 820, height: 600 } });
    const asked = [];
    tab.on("request", (request) => asked.push(request.url()));
    await tab.route(HOST, (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html><body>" }));
    await tab.goto(HOST);
    const told = await tab.evaluate(host, { html, answer: ANSWER });
    const app = tab.frames()[1];
    const cells = await app.$$eval("tbody tr", (rows) => rows.map((row) => [...row.cells].slice(0, 4).map((cell) => cell.textContent)));
    const widths = await app.$$eval(".fill", (bars) => bars.map((bar) => bar.style.width));
    const narrowest = await app.$$eval("td:first-child", (found) => Math.min(...found.map((cell) => cell.clientWidth)));
    const notes = await app.$$eval("p", (found) => found.map((note) => note.textContent));
    const loaded = asked.filter((url) => url !== HOST && !url.startsWith("about:"));
    console.log(JSON.stringify({ told, cells, widths, narrowest, notes, loaded, images: await app.$$eval("img", (found) => found.length) }));
  } finally {
    await browser.close();
  }
})();
