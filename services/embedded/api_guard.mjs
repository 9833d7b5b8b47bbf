// A module that Node loads before the API (@supabase/lite). A request for a path that the app does not use
// gets status 404. A request with a value that a check constraint refuses, or with a date of the wrong type,
// gets status 400, as in hosted Supabase; the API itself would respond with 500.
import { Server } from "node:http";

const USED_OF_AUTH = new Set([
  "GET /auth/v1/health",
  "GET /auth/v1/settings",
  "POST /auth/v1/logout",
  "POST /auth/v1/signup",
  "POST /auth/v1/token",
]);

function isUsed({ method, url, headers }) {
  try {
    // parses the URL as @hono/node-server does: otherwise a forged Host header could hide the path
    const { pathname } = new URL(url.startsWith("/") ? `http://${headers.host}${url}` : url);
    return pathname.startsWith("/rest/v1/") || USED_OF_AUTH.has(`${method} ${pathname}`);
  } catch {
    return false;
  }
}

const REFUSED_VALUE = /violates check constraint|ERR_INVALID_ARG_TYPE/;

// Delays the head of a 500 response until the body arrives; sends 400 instead if the caller caused the error.
function blameRightly(response) {
  const { writeHead, write, end } = response;
  let head = null;
  const sendHead = (body) => {
    if (!head) return;
    const [status, ...rest] = head;
    head = null;
    writeHead.call(response, REFUSED_VALUE.test(Buffer.from(body ?? "").toString()) ? 400 : status, ...rest);
  };
  response.writeHead = (...given) => {
    if (given[0] !== 500) return writeHead.apply(response, given);
    head = given;
    return response;
  };
  for (const [name, send] of Object.entries({ write, end })) {
    response[name] = (...given) => {
      sendHead(typeof given[0] === "function" ? "" : given[0]);
      return send.apply(response, given);
    };
  }
}

const emit = Server.prototype.emit;
Server.prototype.emit = function (event, ...values) {
  const [request, response] = values;
  if (event === "request" && !isUsed(request)) {
    response.writeHead(404).end();
    return true;
  }
  if (event === "request") blameRightly(response);
  return emit.call(this, event, ...values);
};
