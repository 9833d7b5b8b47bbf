// Passkeys. A form with `data-passkey`, "create" or "get", has a hidden button and the fields `step` and
// `answer`. Pressing the button requests options from the server, passes them to the browser's passkey API,
// puts the result into `answer` and posts the form. services/identity/passkeys.py defines the format.

const OFFLINE = "Daybook did not answer. Try again in a moment.";
const UNKNOWN = "This passkey could not be used. Try again, or use another way.";
const UNSUPPORTED = "This browser does not support passkeys. Use another way.";
const ADDRESS = "Passkeys do not work at this address.";
const SENTENCES = {
  create: {
    NotAllowedError: "No passkey was added: it was cancelled, or took too long. Try again.",
    InvalidStateError: "This device has a passkey for your account already.",
    ConstraintError: "This device cannot keep a passkey. Set up its screen lock, or use another device.",
    NotSupportedError: UNSUPPORTED,
    SecurityError: ADDRESS,
  },
  get: {
    NotAllowedError:
      "No passkey was used: it was cancelled, or this device has none for this site. Use another way.",
    NotSupportedError: UNSUPPORTED,
    SecurityError: ADDRESS,
  },
};
let isAsking = false;

const decoded = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));
const encoded = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
const list = (credentials) => credentials.map((each) => ({ ...each, id: decoded(each.id) }));

async function create(options) {
  const { rawId, response } = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: decoded(options.challenge),
      user: { ...options.user, id: decoded(options.user.id) },
      excludeCredentials: list(options.excludeCredentials),
    },
  });
  return {
    id: encoded(rawId),
    client_data: encoded(response.clientDataJSON),
    attestation: encoded(response.attestationObject),
    transports: response.getTransports?.() ?? [],
  };
}

async function get(options) {
  const { rawId, response } = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: decoded(options.challenge),
      allowCredentials: list(options.allowCredentials),
    },
  });
  return {
    id: encoded(rawId),
    client_data: encoded(response.clientDataJSON),
    authenticator_data: encoded(response.authenticatorData),
    signature: encoded(response.signature),
    user_handle: response.userHandle?.byteLength ? encoded(response.userHandle) : null,
  };
}

// Requests the options for the browser's passkey API. Returns { step, options } or { refusal }, a sentence.
async function askServer(form) {
  try {
    const answer = await fetch("/passkey/options", {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      signal: AbortSignal.timeout(10_000),
    });
    return await answer.json();
  } catch {
    return { refusal: OFFLINE };
  }
}

// Fills in the form. If that fails, returns a sentence that says why.
async function fill(form) {
  if (!window.PublicKeyCredential) return isSecureContext ? UNSUPPORTED : ADDRESS;
  form.elements.answer.value = "";
  const { step, options, refusal } = await askServer(form);
  if (refusal) return refusal;
  const kind = form.dataset.passkey;
  try {
    form.elements.answer.value = JSON.stringify(await (kind === "create" ? create : get)(options));
    form.elements.step.value = step;
  } catch (error) {
    return SENTENCES[kind][error.name] ?? UNKNOWN;
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.passkey) return;
  event.preventDefault();
  if (isAsking) return;
  isAsking = true;
  const refusal = await fill(form);
  isAsking = false;
  if (refusal) daybook.tell(form, refusal);
  else daybook.submit(form);
});

function show() {
  for (const button of document.querySelectorAll("form[data-passkey] button[hidden]")) button.hidden = false;
}

show();
daybook.onDraw(show);
