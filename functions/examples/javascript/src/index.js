// What a function can do, one path each: /hello, /stream, /fetch?url=…, /kv/<key>, /config.

import { getAll } from 'wasi:config/store@0.2.0-rc.1';
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

/** @param {Request} request */
async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  switch (pathname) {
    case '/hello':
      return text(`hello, ${searchParams.get('name') ?? 'world'}\n`);
    case '/stream':
      return new Response(count());
    case '/fetch':
      return searchParams.has('url') ? pass(searchParams.get('url')) : text('say ?url=\n', 400);
    case '/config':
      return text(getAll().sort().map(([name, value]) => `${name} = ${value}\n`).join(''));
  }
  if (pathname.startsWith('/kv/')) {
    return notes(request, pathname.slice('/kv/'.length));
  }
  return text(`nothing at ${pathname}\n`, 404);
}

/** Ten lines, each when it is ready. */
function count() {
  const encoder = new TextEncoder();
  let number = 0;
  return new ReadableStream({
    async pull(controller) {
      await new Promise((done) => setTimeout(done, 10));
      controller.enqueue(encoder.encode(`${(number += 1)}\n`));
      if (number === 10) {
        controller.close();
      }
    },
  });
}

/** What another server answers, passed on while it comes. `egress` in eyot.toml says which may be asked. */
async function pass(url) {
  try {
    const response = await fetch(url);
    return new Response(response.body, { status: response.status });
  } catch (error) {
    return text(`${error}\n`, 502);
  }
}

/** One note: GET, PUT or DELETE. `stores` in eyot.toml says which store `default` opens. */
async function notes(request, key) {
  const store = open('default');
  switch (request.method) {
    case 'GET': {
      const note = store.get(key);
      return note ? new Response(note) : text(`no note ${key}\n`, 404);
    }
    case 'PUT':
      store.set(key, new Uint8Array(await request.arrayBuffer()));
      return text(`kept ${key}\n`);
    case 'DELETE':
      store.delete(key);
      return text(`forgot ${key}\n`);
  }
  return text('GET, PUT or DELETE\n', 405);
}

function text(body, status = 200) {
  return new Response(body, { status, headers: { 'content-type': 'text/plain; charset=utf-8' } });
}
