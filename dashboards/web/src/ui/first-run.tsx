/** What an empty server shows: where to send telemetry, ready to copy, until the first span is there. */

import type { JSX } from 'preact';
import type { Status } from '../api';
import { CopyBlock } from './bits';

function url(endpoint: string | null | undefined, fallback: string): string {
  const address = endpoint || fallback;
  return /^https?:\/\//.test(address) ? address.replace(/\/$/, '') : `http://${address}`;
}

export function FirstRun(props: { status: Status }): JSX.Element {
  const grpc = url(props.status.endpoints.otlp_grpc, '127.0.0.1:4317');
  const http = url(props.status.endpoints.otlp_http, '127.0.0.1:4318');
  const page = url(props.status.endpoints.http, location.host);
  return (
    <section class="first-run" aria-labelledby="first-title">
      <div class="waiting" role="status">
        <span class="pulse" aria-hidden="true" />
        <h1 id="first-title">Waiting for the first span</h1>
      </div>
      <p class="lead">
        Listening for OpenTelemetry on <code>{grpc}</code> (gRPC) and <code>{http}</code> (HTTP). Send some with one
        of these; this page changes by itself as soon as it arrives.
      </p>
      <div class="copy-grid">
        <CopyBlock title="Claude Code" note="In the terminal where you start claude. The tool details are what costs are split by." code={claudeCode(grpc)} />
        <CopyBlock title="Any OpenTelemetry SDK" note="Agents, MCP servers and gateways. The team is who pays." code={sdk(http)} />
        <CopyBlock title="Try it now with curl" note="One model call of 1,200 tokens in and 300 out, as an SDK would send it." code={curl(http)} />
        <CopyBlock title="Ask from an MCP client" note="In the client's configuration. Tools: query_costs, describe_data, run_sql." code={mcp(page)} />
        <CopyBlock title="Or look at a demo first" note="A week of a fictional company, in a data folder of its own. Stop this server first: it takes the same ports." code="spanledger demo" />
      </div>
    </section>
  );
}

function claudeCode(grpc: string): string {
  return [
    'export CLAUDE_CODE_ENABLE_TELEMETRY=1',
    'export CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1',
    'export OTEL_METRICS_EXPORTER=otlp',
    'export OTEL_LOGS_EXPORTER=otlp',
    'export OTEL_TRACES_EXPORTER=otlp',
    'export OTEL_EXPORTER_OTLP_PROTOCOL=grpc',
    `export OTEL_EXPORTER_OTLP_ENDPOINT=${grpc}`,
    'export OTEL_LOG_TOOL_DETAILS=1',
    'export OTEL_RESOURCE_ATTRIBUTES=spanledger.team=my-team',
  ].join('\n');
}

function mcp(page: string): string {
  return JSON.stringify({ mcpServers: { spanledger: { type: 'http', url: `${page}/mcp` } } });
}

function sdk(http: string): string {
  return [
    'export OTEL_SERVICE_NAME=my-agent',
    'export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf',
    `export OTEL_EXPORTER_OTLP_ENDPOINT=${http}`,
    'export OTEL_RESOURCE_ATTRIBUTES=spanledger.team=my-team',
  ].join('\n');
}

function curl(http: string): string {
  return `now=$(date +%s)
curl -sS ${http}/v1/traces -H 'content-type: application/json' -d '{"resourceSpans":[{
  "resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"curl"}},
    {"key":"spanledger.team","value":{"stringValue":"my-team"}}]},
  "scopeSpans":[{"spans":[{
    "traceId":"'$(openssl rand -hex 16)'","spanId":"'$(openssl rand -hex 8)'",
    "name":"chat claude-sonnet-4-5","kind":3,
    "startTimeUnixNano":"'$now'000000000","endTimeUnixNano":"'$((now + 1))'000000000",
    "attributes":[
      {"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},
      {"key":"gen_ai.provider.name","value":{"stringValue":"anthropic"}},
      {"key":"gen_ai.request.model","value":{"stringValue":"claude-sonnet-4-5"}},
      {"key":"gen_ai.usage.input_tokens","value":{"intValue":"1200"}},
      {"key":"gen_ai.usage.output_tokens","value":{"intValue":"300"}}]}]}]}]}'`;
}
