"""Gets a token as the Python `mcp` package does, calls a tool over /mcp with it, and a REST route.

Usage: oauth_client.py FLOW TASK, where TASK is a JSON object:
  server   base URL of Spanledger
  as       what oauth-server.mjs wrote
  user     who logs in (code, cimd, id-jag)
  scope    scopes to ask for first
  calls    [[tool, arguments], ...]; a scope that is missing makes the package step up by itself
  rest     path of a GET
FLOW: code | cimd | client-credentials | private-key-jwt | id-jag | token (gets a token and calls nothing) | unproven
(code without a proof key, or with a wrong one: prints what the authorization server says).
Prints {"results": [structured content ...], "rest": {status, body}, "scope", "token", "challenges": n}.
"""

import asyncio
import base64
import hashlib
import html
import json
import re
import secrets
import sys
from urllib.parse import parse_qs, urlencode, urljoin, urlparse

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata

REDIRECT_URI = "http://127.0.0.1:8765/callback"
flow = sys.argv[1]
task = json.loads(sys.argv[2])
server, issuer = task["server"], task["as"]["issuer"]
mcp_url = f"{server}/mcp"
scope = task.get("scope")


class Storage:
    """What a client keeps; `client` is set where it was registered beforehand."""

    def __init__(self, client=None):
        self.tokens, self.client = None, client

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def browse(url, user):
    """A person with a browser: logs in, agrees, and is sent back to the client with these parameters."""
    async with httpx2.AsyncClient() as browser:
        response = await browser.get(url)
        for _ in range(20):
            if location := response.headers.get("location"):
                url = urljoin(str(response.request.url), location)
                if url.startswith(REDIRECT_URI):
                    return {name: values[0] for name, values in parse_qs(urlparse(url).query).items()}
                response = await browser.get(url)
                continue
            prompt = re.search(r'name="prompt" value="(\w+)"', response.text)
            action = re.search(r'<form[^>]* action="([^"]+)"', response.text)
            if not (prompt and action):
                raise SystemExit(f"no form at {url}: {response.status_code} {response.text[:2000]}")
            url = urljoin(str(response.request.url), html.unescape(action[1]))
            form = {"prompt": prompt[1], "login": user, "password": "any"}
            response = await browser.post(url, data=form)
    raise SystemExit("the authorization server sends in circles")


def pkce():
    """A verifier and its S256 challenge."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).decode().rstrip("=")


async def authorize(at, client_id, user, scope, **more):
    """An authorization request: what the client is sent back with."""
    request = {"client_id": client_id, "response_type": "code", "redirect_uri": REDIRECT_URI, "scope": scope}
    return await browse(f"{at}/auth?{urlencode({**request, 'state': 's', **more})}", user)


async def redeem(at, client_id, code, **more):
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI, "client_id": client_id}
    async with httpx2.AsyncClient() as http:
        return await http.post(f"{at}/token", data={**form, **more})


async def id_token(idp, client_id, user):
    """Single sign-on at the company's identity provider: code + PKCE, for an ID token only."""
    verifier, challenge = pkce()
    s256 = {"code_challenge": challenge, "code_challenge_method": "S256"}
    back = await authorize(idp, client_id, user, "openid", **s256)
    response = await redeem(idp, client_id, back["code"], code_verifier=verifier)
    return response.raise_for_status().json()["id_token"]


async def unproven():
    """What the authorization server says where the proof key is missing, weak or wrong, and where it is right."""
    at = (issuer, "desktop", task["user"], scope)
    resource = {"resource": mcp_url}
    verifier, challenge = pkce()
    s256 = {"code_challenge": challenge, "code_challenge_method": "S256"}
    plain = {"code_challenge": verifier, "code_challenge_method": "plain"}
    said = {
        "no challenge": (await authorize(*at, **resource)).get("error"),
        "plain": (await authorize(*at, **resource, **plain)).get("error"),
    }
    proofs = {"no verifier": {}, "wrong verifier": {"code_verifier": pkce()[0]}, "right": {"code_verifier": verifier}}
    for what, proof in proofs.items():
        back = await authorize(*at, **resource, **s256)
        answer = (await redeem(issuer, "desktop", back["code"], **resource, **proof)).json()
        said[what] = answer.get("error") or answer["token_type"]
    return said


def provider(storage):
    secret = task["as"]["secrets"]
    if flow in ("code", "cimd", "token"):
        seen = {}

        async def open_browser(url):
            seen.update(await browse(url, task["user"]))

        async def came_back():
            return AuthorizationCodeResult(code=seen["code"], state=seen.get("state"), iss=seen.get("iss"))

        metadata = OAuthClientMetadata(
            redirect_uris=[REDIRECT_URI],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none",
            scope=scope,
        )
        if flow != "cimd":
            storage.client = OAuthClientInformationFull(
                client_id="desktop", redirect_uris=[REDIRECT_URI], token_endpoint_auth_method="none", issuer=issuer
            )
        return OAuthClientProvider(
            mcp_url,
            metadata,
            storage,
            open_browser,
            came_back,
            client_metadata_url=task["as"]["cimd"] if flow == "cimd" else None,
        )
    if flow == "client-credentials":
        client = task.get("client", "robot")
        return ClientCredentialsOAuthProvider(
            mcp_url, storage, client_id=client, client_secret=secret[client], scope=scope, issuer=issuer
        )
    if flow == "private-key-jwt":
        with open(task["as"]["signer_pem"]) as file:
            signed = SignedJWTParameters(
                issuer="signer", subject="signer", signing_key=file.read(), signing_algorithm="ES256"
            )
        return PrivateKeyJWTOAuthProvider(
            mcp_url,
            storage,
            client_id="signer",
            assertion_provider=signed.create_assertion_provider(),
            scope=scope,
            issuer=issuer,
        )
    if flow == "id-jag":
        idp = task["as"]["idp"]

        async def id_jag(audience, resource):
            form = {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "requested_token_type": "urn:ietf:params:oauth:token-type:id-jag",
                "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "subject_token": await id_token(idp, "agent", task["user"]),
                "audience": audience,
                "resource": resource,
                "client_id": "agent",
            }
            async with httpx2.AsyncClient() as http:
                response = await http.post(f"{idp}/token", data=form)
            answer = response.raise_for_status().json()
            assert answer["issued_token_type"] == "urn:ietf:params:oauth:token-type:id-jag", answer
            return answer["access_token"]

        return IdentityAssertionOAuthProvider(
            mcp_url,
            storage,
            client_id="agent",
            client_secret=secret["agent"],
            issuer=issuer,
            assertion_provider=id_jag,
            scope=scope,
        )
    raise SystemExit(f"there is no flow {flow}")


async def main():
    storage, challenges = Storage(), []

    async def note(response):
        if response.status_code in (401, 403):
            challenges.append([response.status_code, response.headers.get("www-authenticate", "")])

    results = []
    async with httpx2.AsyncClient(auth=provider(storage), timeout=60, event_hooks={"response": [note]}) as http:
        if flow == "token":
            await http.post(mcp_url, json={})
        else:
            async with Client(streamable_http_client(mcp_url, http_client=http)) as client:
                for tool, arguments in task["calls"]:
                    result = await client.call_tool(tool, arguments)
                    results.append({"is_error": bool(result.is_error), "content": result.structured_content})
    rest = None
    if path := task.get("rest"):
        async with httpx2.AsyncClient() as http:
            response = await http.get(
                f"{server}{path}", headers={"authorization": f"Bearer {storage.tokens.access_token}"}
            )
            rest = {"status": response.status_code, "body": response.json()}
    print(
        json.dumps(
            {
                "results": results,
                "rest": rest,
                "scope": storage.tokens.scope,
                "token": storage.tokens.access_token,
                "challenges": challenges,
            }
        )
    )


if flow == "unproven":
    print(json.dumps(asyncio.run(unproven())))
else:
    asyncio.run(main())
