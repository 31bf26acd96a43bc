// Drives tasks with the TypeScript client 2 and ext-tasks, in one of the eras. Prints what it saw as JSON.
//
// usage: tasks_v2.cjs URL ERA TOOL ARGUMENTS
const path = require('node:path');
const { pathToFileURL } = require('node:url');

const [url, era, tool, args] = process.argv.slice(2);
// both packages are ES modules, which NODE_PATH does not find
const load = (file) => import(pathToFileURL(path.join(process.env.NODE_PATH, '@modelcontextprotocol', file)).href);

const VERSION = '2026-07-28';
const clientInfo = { name: 'tasks-v2', version: '1' };
const clientCapabilities = { elicitation: {} };

// The SDK's own codec refuses task messages of the modern era: the host sends them itself.
let next = 0;
async function rawDispatch(request) {
  const name = request.params?.taskId ?? request.params?.name;
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': VERSION,
      'mcp-method': request.method,
      ...(name === undefined ? {} : { 'mcp-name': name }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: ++next, ...request }),
  });
  return response.json();
}

async function main() {
  const { Client, StreamableHTTPClientTransport } = await load('client/dist/index.mjs');
  const { createTaskSessionFromClient, resultFromTaskOutcome } = await load('ext-tasks/dist/client/index.js');
  const versionNegotiation = era === 'modern' ? { mode: { pin: VERSION } } : { mode: 'legacy' };
  const client = new Client(clientInfo, { capabilities: clientCapabilities, versionNegotiation });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  const seen = { era: client.getProtocolEra() };
  const modern = { rawDispatch, v2RequestFraming: { protocolVersion: VERSION, clientInfo, clientCapabilities } };
  const session = createTaskSessionFromClient(client, {
    endpointId: 'spanledger',
    ...(seen.era === 'modern' ? modern : {}),
  });
  const execution = await session.callTool(tool, JSON.parse(args), { task: { preference: 'prefer' } });
  seen.kind = execution.kind;
  const { outcome } = await execution.settle();
  seen.outcome = outcome;
  seen.result = resultFromTaskOutcome(outcome);
  await session.close();
  await client.close();
  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
