// Drives tasks of 2025-11-25 with the TypeScript SDK of that time. Prints what it saw as JSON.
//
// usage: tasks_v1.cjs URL TOOL ARGUMENTS ENDLESS_SQL
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { CallToolResultSchema } = require('@modelcontextprotocol/sdk/types.js');

const [url, tool, args, endless] = process.argv.slice(2);

async function main() {
  const client = new Client({ name: 'tasks-v1', version: '1' }, { capabilities: {} });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  const seen = { capability: client.getServerCapabilities().tasks, messages: [] };
  const listed = await client.listTools();
  seen.support = listed.tools.find((each) => each.name === tool).execution?.taskSupport;
  const call = { name: tool, arguments: JSON.parse(args) };
  const task = { ttl: 120000 };
  for await (const message of client.experimental.tasks.callToolStream(call, CallToolResultSchema, { task })) {
    seen.messages.push(message.type);
    if (message.type === 'taskCreated') seen.task = message.task;
    if (message.type === 'result') seen.result = message.result;
    if (message.type === 'error') throw message.error;
  }
  const started = await client.request(
    { method: 'tools/call', params: { name: 'run_sql', arguments: { query: endless }, task } },
    require('@modelcontextprotocol/sdk/types.js').CreateTaskResultSchema,
  );
  const id = started.task.taskId;
  seen.running = (await client.experimental.tasks.getTask(id)).status;
  seen.cancelled = (await client.experimental.tasks.cancelTask(id)).status;
  seen.listed = (await client.experimental.tasks.listTasks()).tasks.map((each) => each.status);
  seen.again = await client.experimental.tasks.getTaskResult(seen.task.taskId, CallToolResultSchema);
  await client.close();
  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
