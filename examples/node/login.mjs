// An application with accounts of its own, whose sign-in page is also the one of Cardea. What concerns Cardea is in the
// first part. The second part stands for what your application has already.
import { randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import express from 'express';

const issuer = process.env.ISSUER ?? 'http://localhost:8080'; // Cardea
const app = new URL(process.env.APP ?? 'http://localhost:8070'); // this application
const { CLIENT_ID: id, CLIENT_SECRET: secret } = process.env; // printed by: cardea client create --name App --login
const server = express();

// Cardea sends the browser here (login.external.url), with login_request. A person who is signed in already goes on at once.
server.get('/cardea-login', async (req, res) => {
  const session = sessionOf(req);
  if (!session) return res.send(signInPage(req.query.login_request));
  await goOn(res, req.query.login_request, session);
});

server.post('/cardea-login', express.urlencoded({ extended: false }), async (req, res) => {
  if (req.headers.origin && req.headers.origin !== app.origin) return res.status(403).send('This form is not from here.');
  const { login_request, email, password, cancel } = req.body;
  if (cancel) return send(res, login_request, { error: 'access_denied' });
  const person = checkPassword(email, password);
  if (!person) return res.status(403).send(signInPage(login_request, 'That did not work. Check the e-mail address and the password.'));
  await goOn(res, login_request, begin(res, person));
});

// goOn tells Cardea who is signed in. sub is the person's id in this application; it must never change, and never be
// given to another person.
async function goOn(res, loginRequest, { person, signedInAt }) {
  await send(res, loginRequest, {
    sub: person.id,
    email: person.email,
    email_verified: person.emailVerified,
    name: person.name,
    amr: ['pwd'],
    auth_time: Math.floor(signedInAt / 1000),
  });
}

// send answers the login request from server to server, and sends the browser back to Cardea. If the sign-in is too
// old for Cardea, it asks the person for the password again.
async function send(res, loginRequest, answer) {
  let status, said;
  try {
    const response = await fetch(`${issuer}/login/external/${encodeURIComponent(loginRequest)}`, {
      method: 'POST',
      headers: {
        'Authorization': 'Basic ' + Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64'),
        'Content-Type': 'application/json',
      },
      body: JSON.stringify(answer),
    });
    status = response.status;
    said = await response.json();
  } catch (error) {
    said = { error: `${issuer} does not answer as Cardea does, check ISSUER`, error_description: error.cause ?? error };
  }
  if (status === 200) return res.redirect(303, said.continue_url);
  if (said.error === 'login_required') return res.send(signInPage(loginRequest, 'Please sign in again: it has been a while.'));
  const todo = said.error === 'invalid_client' ? ' (check CLIENT_ID and CLIENT_SECRET)' : '';
  console.error(`Cardea refuses the answer: ${status}: ${said.error}: ${said.error_description}${todo}`);
  // The login request is unknown, was answered before, or is too old. The rest is for the people who run this application.
  if (said.error === 'invalid_request' && [404, 409, 410].includes(status)) {
    return res.status(400).send('This sign-in took too long, or was finished already. Please start again from your agent.');
  }
  res.status(502).send('You could not be signed in, because this application and the server that asked for you do not '
    + 'understand each other at the moment. It is not your password. Please tell the people who run this application.');
}

// --- What your application has already: accounts, sessions, a sign-in page. Here they are in memory. ---

const salt = randomBytes(16);
const hash = (password) => scryptSync(password, salt, 32);
const people = new Map([
  ['ada@example.com', { id: 'u1', email: 'ada@example.com', emailVerified: true, name: 'Ada', hash: hash(process.env.PASSWORD ?? 'correct horse battery staple') }],
]);
const nobody = { hash: randomBytes(32) }; // an unknown address takes as long as a wrong password

function checkPassword(email, password) {
  const person = people.get(String(email).trim().toLowerCase()) ?? nobody;
  return timingSafeEqual(hash(String(password)), person.hash) && person !== nobody ? person : undefined;
}

const sessions = new Map();

function begin(res, person) {
  const cookie = randomBytes(32).toString('base64url');
  const session = { person, signedInAt: Date.now() };
  sessions.set(cookie, session);
  res.cookie('app_session', cookie, { httpOnly: true, sameSite: 'lax', secure: app.protocol === 'https:' });
  return session;
}

function sessionOf(req) {
  return sessions.get(/(?:^|; )app_session=([\w-]+)/.exec(req.headers.cookie ?? '')?.[1]);
}

const escape = (text) => String(text ?? '').replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function signInPage(loginRequest, problem) {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in to the example</title>
<h1>Sign in to the example</h1>
${problem ? `<p role="alert">${escape(problem)}</p>` : ''}
<form method="post" action="/cardea-login">
  <input type="hidden" name="login_request" value="${escape(loginRequest)}">
  <p><label>E-mail <input name="email" type="email" autocomplete="username" required></label></p>
  <p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
  <p><button>Sign in</button> <button name="cancel" value="1" formnovalidate>Cancel</button></p>
</form>
</html>`;
}

server.listen(app.port || 80, app.hostname, (error) => {
  if (error) throw error;
  console.log(`Application on ${app.origin}`);
});
