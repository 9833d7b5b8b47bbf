// Two providers of single sign-on from npm: oidc-provider, which is strict, and oauth2-mock-server, which says what it is told.
//
//   node real_providers.mjs FOLDER SETTINGS
//
// FOLDER has the modules; SETTINGS is JSON: {strict, mock, control: ports, client_id, client_secret, redirect_uris}.
// POST /script at the port `control` sets what the mock changes: {claims, header, metadata, query}; null removes a field.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const { resolve } = createRequire(pathToFileURL(`${folder}/`));
const load = (name) => import(pathToFileURL(resolve(name)));

const { Provider } = await load("oidc-provider");
const { OAuth2Server } = await load("oauth2-mock-server");

const strict = new Provider(`http://127.0.0.1:${settings.strict}`, {
  clients: [
    {
      client_id: settings.client_id,
      client_secret: settings.client_secret,
      redirect_uris: settings.redirect_uris,
      post_logout_redirect_uris: settings.redirect_uris.map((one) => `${new URL(one).origin}/`),
    },
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  cookies: { keys: ["kumquat"] },
  // whoever signs in as NAME has the address NAME@corp.example; the password may be anything
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: `${sub}@corp.example`, email_verified: !sub.startsWith("new") }),
  }),
});
strict.listen(settings.strict, "127.0.0.1");

let script = {};
const change = (target, changes = {}) => {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) delete target[name];
    else target[name] = value;
  }
};
const mock = new OAuth2Server();
mock.issuer.url = `http://127.0.0.1:${settings.mock}`; // it would say localhost
await mock.issuer.keys.generate("RS256");
mock.service.on("beforeTokenSigning", (token) => {
  change(token.header, script.header);
  change(token.payload, script.claims);
});
mock.service.on("beforeWellKnownOpenIdConfiguration", ({ body }) => change(body, script.metadata));
mock.service.on("beforeAuthorizeRedirect", ({ url }) => {
  for (const [name, value] of Object.entries(script.query ?? {})) url.searchParams.set(name, value);
});
await mock.start(settings.mock, "127.0.0.1");

createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  if (request.method === "POST") script = JSON.parse(body);
  response.writeHead(200, { "content-type": "application/json" }).end("{}");
}).listen(settings.control, "127.0.0.1");
