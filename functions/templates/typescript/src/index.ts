// Greets whoever `?name=` names.

export {};
declare const self: ServiceWorkerGlobalScope;

self.addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request: Request): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname !== '/') {
    return text(`nothing at ${pathname}\n`, 404);
  }
  return text(`hello, ${searchParams.get('name') ?? 'world'}\n`);
}

function text(body: string, status = 200): Response {
  return new Response(body, { status, headers: { 'content-type': 'text/plain; charset=utf-8' } });
}
