// The authorization server of the OAuth tests: `oidc-provider`, with everything that MCP's authorization
// asks of one. Started by the test (testkit `tools::node`), on free loopback ports, gone with its process.
//
//   oauth-server.mjs FOLDER [PORT]
//
// FOLDER/server.json appears when it is ready: addresses and the clients' credentials. With PORT the
// server comes back where an earlier one was, with new keys. It ends with its standard input.
//
// Two issuers: the authorization server (code + PKCE S256, client credentials with a secret or
// private_key_jwt, CIMD, resource indicators, introspection, revocation, jwt-bearer for ID-JAGs) and an
// identity provider (code + PKCE, RFC 8693 exchange of an ID token for an ID-JAG). The metadata document of
// the CIMD client is served over HTTPS by a certificate of a CA that is made here.
//
// POST /test/sign {header, claims, with: "own"|"other"|"public"|"none"} makes what an issuer never would.

import { execFileSync } from 'node:child_process';
import { createHmac, createPublicKey } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import tls from 'node:tls';

// the packages are outside the work tree, and `import` does not look at NODE_PATH
const load = (file) => import(pathToFileURL(path.join(process.env.NODE_PATH, file)));
const { Provider, errors } = await load('oidc-provider/lib/index.js');
const jose = await load('jose/dist/webapi/index.js');

const [folder, port] = process.argv.slice(2);
const SCOPES = 'telemetry:write costs:read payloads:read sql:read finops:write admin';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ID_JAG = 'urn:ietf:params:oauth:token-type:id-jag';
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';
const TOKEN_TTL_S = 300;

const fresh = async (alg) => {
  const { privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await jose.exportJWK(privateKey)), alg, use: 'sig' };
  return { ...jwk, kid: await jose.calculateJwkThumbprint(jwk) };
};
const listen = (server, wanted = 0) =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(Number(wanted), '127.0.0.1', () => resolve(server.address().port));
  });
const publicPart = ({ d, p, q, dp, dq, qi, ...rest }) => rest;

// --- HTTPS for client ids that are URLs ---------------------------------------------------------------
const file = (name) => path.join(folder, name);
const openssl = (...words) => execFileSync('openssl', words, { stdio: ['ignore', 'ignore', 'pipe'] });
const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
openssl('req', '-x509', ...ec, '-subj', '/CN=test CA', '-keyout', file('ca.key'), '-out', file('ca.pem'));
openssl('req', '-x509', ...ec, '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
  '-addext', 'basicConstraints=CA:FALSE', '-CA', file('ca.pem'), '-CAkey', file('ca.key'),
  '-keyout', file('host.key'), '-out', file('host.pem'));
tls.setDefaultCACertificates([...tls.getCACertificates('default'), readFileSync(file('ca.pem'), 'utf8')]);

let cimdId;
const cimd = https.createServer(
  { key: readFileSync(file('host.key')), cert: readFileSync(file('host.pem')) },
  (_request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({
      client_id: cimdId,
      client_name: 'A client that nobody registered',
      application_type: 'native',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    }));
  },
);
cimdId = `https://localhost:${await listen(cimd)}/client.json`;

// --- the authorization server -------------------------------------------------------------------------
const asServer = http.createServer();
const idpServer = http.createServer();
const issuer = `http://127.0.0.1:${await listen(asServer, port)}`;
const idp = `http://127.0.0.1:${await listen(idpServer)}`;

const signer = await fresh('ES256');
const signerPem = await jose.exportPKCS8(await jose.importJWK(signer, 'ES256', { extractable: true }));
const own = await fresh('ES256');
const other = await fresh('ES256');
const secret = () => Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString('base64url');
const secrets = { robot: secret(), 'other-robot': secret(), opaque: secret(), agent: secret(), spanledger: secret() };

// who belongs to which company, as a directory would know it
const claimsOf = (who) => ({
  tenant: who.startsWith('other-') ? 'other' : 'acme',
  groups: who === 'lead' ? ['search-leads'] : ['everyone'],
});
const machine = (id, more = {}) => ({
  client_id: id,
  client_secret: secrets[id],
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'client_secret_basic',
  scope: SCOPES,
  ...more,
});
const native = (id) => ({
  client_id: id,
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
});
const resourceServer = (_ctx, resource, client) => ({
  scope: SCOPES,
  audience: resource,
  accessTokenTTL: TOKEN_TTL_S,
  accessTokenFormat: client.clientId === 'opaque' ? 'opaque' : 'jwt',
  jwt: { sign: { alg: 'ES256' } },
});
const common = {
  cookies: { keys: [secret()] },
  findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  pkce: { required: () => true },
  // the host of the client metadata is on loopback, which the dispatcher that the package sets would refuse
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
};

const as = new Provider(issuer, {
  ...common,
  jwks: { keys: [own] },
  clients: [
    machine('robot'),
    machine('other-robot'),
    machine('opaque'),
    machine('signer', {
      client_secret: undefined,
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'ES256',
      jwks: { keys: [publicPart(signer)] },
    }),
    machine('agent', { grant_types: [JWT_BEARER], token_endpoint_auth_method: 'client_secret_post' }),
    machine('spanledger', { grant_types: [], scope: undefined }),
    native('desktop'),
  ],
  scopes: ['openid', 'offline_access', ...SCOPES.split(' ')],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  enabledJWA: { clientAuthSigningAlgValues: ['ES256', 'RS256'], idTokenSigningAlgValues: ['ES256'] },
  extraTokenClaims: (_ctx, token) => claimsOf(token.accountId ?? token.clientId),
  discovery: { authorization_grant_profiles_supported: ['urn:ietf:params:oauth:grant-profile:id-jag'] },
  features: {
    clientCredentials: { enabled: true },
    clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
    introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientId === 'spanledger' },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: resourceServer,
      useGrantedResource: () => true,
    },
  },
});

// RFC 7523 with an ID-JAG: an assertion of the identity provider becomes a token for one resource
const idpKeys = jose.createRemoteJWKSet(new URL(`${idp}/jwks`));
const spent = new Set();
as.registerGrantType(
  JWT_BEARER,
  async (ctx) => {
    const { client, params } = ctx.oidc;
    const { payload } = await jose
      .jwtVerify(params.assertion, idpKeys, {
        issuer: idp,
        audience: issuer,
        typ: 'oauth-id-jag+jwt',
        requiredClaims: ['sub', 'client_id', 'resource', 'jti', 'exp', 'iat'],
      })
      .catch((error) => {
        throw new errors.InvalidGrant(error.message);
      });
    if (payload.client_id !== client.clientId) throw new errors.InvalidGrant('the assertion is for another client');
    if (params.resource && params.resource !== payload.resource) throw new errors.InvalidTarget();
    if (spent.has(payload.jti)) throw new errors.InvalidGrant('the assertion was used before');
    spent.add(payload.jti);
    const allowed = new Set(payload.scope.split(' '));
    const scope = (params.scope ?? payload.scope).split(' ').filter((name) => allowed.has(name)).join(' ');
    const token = new as.AccessToken({ accountId: payload.sub, client, gty: 'jwt_bearer', scope });
    token.resourceServer = new as.ResourceServer(payload.resource, resourceServer(ctx, payload.resource, client));
    token.extra = claimsOf(payload.sub);
    ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: TOKEN_TTL_S, scope };
  },
  ['assertion', 'resource', 'scope'],
);

// --- the identity provider of the company -------------------------------------------------------------
const idpKey = await fresh('ES256');
const idpProvider = new Provider(idp, {
  ...common,
  jwks: { keys: [idpKey] },
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  clients: [{ ...native('agent'), grant_types: ['authorization_code', TOKEN_EXCHANGE] }],
});
const idpOwn = jose.createLocalJWKSet({ keys: [publicPart(idpKey)] });
idpProvider.registerGrantType(
  TOKEN_EXCHANGE,
  async (ctx) => {
    const { client, params } = ctx.oidc;
    if (params.requested_token_type !== ID_JAG || params.subject_token_type !== ID_TOKEN) {
      throw new errors.InvalidRequest('an ID token is exchanged for an ID-JAG here');
    }
    const { payload } = await jose
      .jwtVerify(params.subject_token, idpOwn, { issuer: idp, audience: client.clientId })
      .catch((error) => {
        throw new errors.InvalidGrant(error.message);
      });
    const assertion = await new jose.SignJWT({
      client_id: client.clientId,
      resource: params.resource,
      scope: params.scope ?? 'costs:read sql:read',
    })
      .setProtectedHeader({ alg: 'ES256', kid: idpKey.kid, typ: 'oauth-id-jag+jwt' })
      .setIssuer(idp)
      .setSubject(payload.sub)
      .setAudience(params.audience)
      .setJti(secret())
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(await jose.importJWK(idpKey, 'ES256'));
    ctx.body = { issued_token_type: ID_JAG, access_token: assertion, token_type: 'N_A', expires_in: TOKEN_TTL_S };
  },
  ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'],
);

// --- what an issuer never signs -----------------------------------------------------------------------
const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const forge = async ({ header, claims, with: key }) => {
  const now = Math.floor(Date.now() / 1000);
  const head = { alg: 'ES256', typ: 'at+jwt', kid: own.kid, ...header };
  const body = { iss: issuer, sub: 'alice', client_id: 'robot', iat: now, exp: now + TOKEN_TTL_S, jti: secret(), tenant: 'acme', ...claims };
  const input = `${encode(head)}.${encode(body)}`;
  if (key === 'none') return `${input}.`;
  if (key === 'public') {
    const pem = createPublicKey({ key: publicPart(own), format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    return `${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`;
  }
  const jwk = key === 'other' ? other : own;
  return new jose.CompactSign(Buffer.from(JSON.stringify(body)))
    .setProtectedHeader(head)
    .sign(await jose.importJWK(jwk, 'ES256'));
};
const test = async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  response.end(await forge(JSON.parse(text)));
};

process.stdin.resume().on('end', () => process.exit());
const callback = as.callback();
asServer.on('request', (request, response) => {
  if (request.url === '/test/sign') test(request, response).catch((error) => response.destroy(error));
  else callback(request, response);
});
idpServer.on('request', idpProvider.callback());

writeFileSync(file('signer.pem'), signerPem);
writeFileSync(file('server.json.new'), JSON.stringify({
  issuer, port: new URL(issuer).port, idp, cimd: cimdId, secrets, signer_pem: file('signer.pem'),
}));
renameSync(file('server.json.new'), file('server.json'));
