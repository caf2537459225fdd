// Asks the browser for a passkey (WebAuthn) when a form with data-passkey or data-new-passkey is sent, and puts its answer
// into the input named passkey. The attribute has the options, in JSON. A passkey may also be chosen where the e-mail
// address is typed.
"use strict";

const decoded = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

const encoded = (buffer) => {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
};

const answerOf = (credential) => {
  const from = credential.response;
  const response = { clientDataJSON: encoded(from.clientDataJSON) };
  if (from.attestationObject) {
    response.attestationObject = encoded(from.attestationObject);
    response.transports = from.getTransports ? from.getTransports() : [];
  } else {
    response.authenticatorData = encoded(from.authenticatorData);
    response.signature = encoded(from.signature);
    if (from.userHandle) response.userHandle = encoded(from.userHandle);
  }
  const id = encoded(credential.rawId);
  return JSON.stringify({ id, rawId: id, type: credential.type, response, clientExtensionResults: {} });
};

const optionsOf = (form) => {
  const options = JSON.parse(form.dataset.passkey || form.dataset.newPasskey);
  options.challenge = decoded(options.challenge);
  if (options.user) options.user.id = decoded(options.user.id);
  for (const list of ["allowCredentials", "excludeCredentials"]) {
    for (const one of options[list] || []) one.id = decoded(one.id);
  }
  return options;
};

// The sentences for what browsers call their errors.
const problems = {
  NotAllowedError: "That took too long, or was cancelled. Try again.",
  InvalidStateError: "This device has a passkey for your account already.",
  NotSupportedError: "This device cannot make a passkey that is safe enough.",
  SecurityError: "Passkeys work only at the address of this server itself.",
};

// What ends the offer where the e-mail address is typed, and the offer, because a browser does one thing at a time.
const offered = new AbortController();
let offering = null;

const send = (form, credential) => {
  form.elements.passkey.value = answerOf(credential);
  form.submit(); // does not ask again
};

const ask = async (form) => {
  const problem = form.querySelector("[data-problem]");
  const button = form.querySelector("button");
  problem.hidden = true;
  button.disabled = true;
  offered.abort();
  await offering;
  try {
    const publicKey = optionsOf(form);
    send(form, await (form.dataset.passkey ? navigator.credentials.get({ publicKey }) : navigator.credentials.create({ publicKey })));
  } catch (error) {
    problem.textContent = problems[error.name] || "That did not work in this browser. Try again, or use another device.";
    problem.hidden = false;
    button.disabled = false;
  }
};

const offer = async (form) => {
  const can = PublicKeyCredential.isConditionalMediationAvailable;
  if (!document.querySelector('input[autocomplete~="webauthn"]') || !can || !(await can.call(PublicKeyCredential))) return;
  try {
    send(form, await navigator.credentials.get({ publicKey: optionsOf(form), mediation: "conditional", signal: offered.signal }));
  } catch {
    // Nothing was chosen, and the button is there.
  }
};

const able = window.PublicKeyCredential && navigator.credentials;
for (const note of document.querySelectorAll("[data-no-passkeys]")) note.hidden = Boolean(able);
for (const form of document.querySelectorAll("form[data-passkey], form[data-new-passkey]")) {
  form.hidden = !able;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form);
  });
  if (able && form.dataset.passkey) offering = offer(form);
}
