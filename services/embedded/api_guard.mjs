// Loaded into the API's Node before it begins: what the app does not use is answered 404.
//
// Of Supabase Auth the app signs up, in and out. The rest (recover, verify, PUT user …) would give whoever
// reads the database, or holds an access token, a way to a password of their own.
import { Server } from "node:http";

const USED_OF_AUTH = new Set([
  "GET /auth/v1/health",
  "GET /auth/v1/settings",
  "GET /auth/v1/user",
  "POST /auth/v1/logout",
  "POST /auth/v1/signup",
  "POST /auth/v1/token",
]);

function isUsed({ method, url, headers }) {
  try {
    // the address as @hono/node-server makes it: read in another way, a made-up Host could hide the path
    const { pathname } = new URL(url.startsWith("/") ? `http://${headers.host}${url}` : url);
    return pathname.startsWith("/rest/v1/") || USED_OF_AUTH.has(`${method} ${pathname}`);
  } catch {
    return false;
  }
}

const emit = Server.prototype.emit;
Server.prototype.emit = function (event, request, response) {
  if (event === "request" && !isUsed(request)) {
    response.writeHead(404).end();
    return true;
  }
  return emit.apply(this, arguments);
};
