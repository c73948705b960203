// Greets whoever `?name=` names.

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

/** @param {Request} request */
async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname !== '/') {
    return text(`nothing at ${pathname}\n`, 404);
  }
  return text(`hello, ${searchParams.get('name') ?? 'world'}\n`);
}

/** @param {string} body */
function text(body, status = 200) {
  return new Response(body, { status, headers: { 'content-type': 'text/plain; charset=utf-8' } });
}
