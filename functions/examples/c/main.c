// What a function can do, one path each: /hello, /stream, /fetch?url=…, /kv/<key>, /config.
//
// Each call has an instance of its own, which is gone with the answer: nothing here is freed by hand but handles that
// must end in order.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "function.h"

typedef http_own_response_outparam_t Out;

// An answer whose body is being written.
typedef struct {
  http_own_outgoing_body_t body;
  io_own_output_stream_t stream;
} Answer;

static function_string_t string(const char *text) {
  return (function_string_t){(uint8_t *)text, strlen(text)};
}

// Sends status and type; the body follows.
static Answer begin(Out out, uint16_t status) {
  http_own_fields_t fields = http_constructor_fields();
  function_string_t name = string("content-type"), type = string("text/plain; charset=utf-8");
  http_field_value_t value = {type.ptr, type.len};
  http_header_error_t refused;
  http_method_fields_append(http_borrow_fields(fields), &name, &value, &refused);
  http_own_outgoing_response_t response = http_constructor_outgoing_response(fields);
  http_method_outgoing_response_set_status_code(http_borrow_outgoing_response(response), status);
  Answer answer;
  http_method_outgoing_response_body(http_borrow_outgoing_response(response), &answer.body);
  http_method_outgoing_body_write(http_borrow_outgoing_body(answer.body), &answer.stream);
  http_result_own_outgoing_response_error_code_t head = {.is_err = false, .val.ok = response};
  http_static_response_outparam_set(out, &head);
  return answer;
}

// Sends bytes and waits until they are on their way; false: the client has left.
static bool say(Answer answer, const uint8_t *bytes, size_t len) {
  io_stream_error_t closed;
  while (len > 0) {
    size_t part = len < 4096 ? len : 4096;  // what one call takes
    function_list_u8_t piece = {(uint8_t *)bytes, part};
    if (!io_method_output_stream_blocking_write_and_flush(io_borrow_output_stream(answer.stream), &piece, &closed)) {
      return false;
    }
    bytes += part;
    len -= part;
  }
  return true;
}

static void end(Answer answer) {
  http_error_code_t failed;
  io_output_stream_drop_own(answer.stream);
  http_static_outgoing_body_finish(answer.body, NULL, &failed);
}

static void text(Out out, uint16_t status, const char *words) {
  Answer answer = begin(out, status);
  say(answer, (const uint8_t *)words, strlen(words));
  end(answer);
}

// Ten lines, each when it is ready.
static void count(Out out) {
  Answer answer = begin(out, 200);
  for (int number = 1; number <= 10; number++) {
    clock_own_pollable_t later = clock_subscribe_duration(10 * 1000 * 1000);
    poll_method_pollable_block(poll_borrow_pollable(later));
    poll_pollable_drop_own(later);
    char line[8];
    int len = snprintf(line, sizeof line, "%d\n", number);
    if (!say(answer, (const uint8_t *)line, len)) break;
  }
  end(answer);
}

// Asks `url` and waits for the head of what comes back.
static bool ask(const char *url, http_own_incoming_response_t *response) {
  bool plain = strncmp(url, "http://", 7) == 0;
  if (!plain && strncmp(url, "https://", 8) != 0) return false;
  const char *host = url + (plain ? 7 : 8), *path = host + strcspn(host, "/?");
  function_string_t authority = {(uint8_t *)host, path - host}, target = string(*path ? path : "/");
  http_scheme_t scheme = {.tag = plain ? HTTP_SCHEME_HTTP : HTTP_SCHEME_HTTPS};

  http_own_outgoing_request_t request = http_constructor_outgoing_request(http_constructor_fields());
  http_borrow_outgoing_request_t borrowed = http_borrow_outgoing_request(request);
  http_method_outgoing_request_set_scheme(borrowed, &scheme);
  http_method_outgoing_request_set_authority(borrowed, &authority);
  http_method_outgoing_request_set_path_with_query(borrowed, &target);
  http_own_future_incoming_response_t future;
  http_error_code_t refused;
  if (!outgoing_handle(request, NULL, &future, &refused)) return false;

  http_borrow_future_incoming_response_t waiting = http_borrow_future_incoming_response(future);
  poll_own_pollable_t ready = http_method_future_incoming_response_subscribe(waiting);
  poll_method_pollable_block(poll_borrow_pollable(ready));
  poll_pollable_drop_own(ready);
  http_result_result_own_incoming_response_error_code_void_t got;
  if (!http_method_future_incoming_response_get(waiting, &got) || got.is_err || got.val.ok.is_err) return false;
  *response = got.val.ok.val.ok;
  return true;
}

// What another server answers, passed on while it comes. `egress` in eyot.toml says which may be asked.
static void fetch(Out out, const char *url) {
  http_own_incoming_response_t response;
  if (!ask(url, &response)) {
    text(out, 502, "it does not answer, or egress does not name it\n");
    return;
  }
  Answer answer = begin(out, http_method_incoming_response_status(http_borrow_incoming_response(response)));
  http_own_incoming_body_t body;
  io_own_input_stream_t from;
  http_method_incoming_response_consume(http_borrow_incoming_response(response), &body);
  http_method_incoming_body_stream(http_borrow_incoming_body(body), &from);
  uint64_t moved;
  io_stream_error_t ended;
  while (io_method_output_stream_blocking_splice(io_borrow_output_stream(answer.stream), io_borrow_input_stream(from),
                                                 1 << 16, &moved, &ended)) {
  }
  end(answer);
}

// All of the request's body.
static function_list_u8_t whole(http_own_incoming_request_t request) {
  http_own_incoming_body_t body;
  io_own_input_stream_t from;
  http_method_incoming_request_consume(http_borrow_incoming_request(request), &body);
  http_method_incoming_body_stream(http_borrow_incoming_body(body), &from);
  function_list_u8_t all = {NULL, 0}, piece;
  io_stream_error_t ended;
  while (io_method_input_stream_blocking_read(io_borrow_input_stream(from), 1 << 16, &piece, &ended)) {
    all.ptr = realloc(all.ptr, all.len + piece.len + 1);
    memcpy(all.ptr + all.len, piece.ptr, piece.len);
    all.len += piece.len;
    free(piece.ptr);
  }
  return all;
}

// One note: GET, PUT or DELETE. `stores` in eyot.toml says which store `default` opens.
static void notes(Out out, http_own_incoming_request_t request, const char *name) {
  char words[300];
  function_string_t store = string("default"), key = string(name);
  keyvalue_own_bucket_t opened;
  keyvalue_error_t failed;
  if (!keyvalue_open(&store, &opened, &failed)) {
    text(out, 500, "the store does not open\n");
    return;
  }
  keyvalue_borrow_bucket_t bucket = keyvalue_borrow_bucket(opened);
  http_method_t method;
  http_method_incoming_request_method(http_borrow_incoming_request(request), &method);
  if (method.tag == HTTP_METHOD_GET) {
    function_option_list_u8_t note;
    if (!keyvalue_method_bucket_get(bucket, &key, &note, &failed)) {
      text(out, 500, "the store does not answer\n");
    } else if (note.is_some) {
      Answer answer = begin(out, 200);
      say(answer, note.val.ptr, note.val.len);
      end(answer);
    } else {
      snprintf(words, sizeof words, "no note %s\n", name);
      text(out, 404, words);
    }
  } else if (method.tag == HTTP_METHOD_PUT) {
    function_list_u8_t note = whole(request);
    bool kept = keyvalue_method_bucket_set(bucket, &key, &note, &failed);
    snprintf(words, sizeof words, kept ? "kept %s\n" : "%s is not kept\n", name);
    text(out, kept ? 200 : 500, words);
  } else if (method.tag == HTTP_METHOD_DELETE) {
    bool gone = keyvalue_method_bucket_delete(bucket, &key, &failed);
    snprintf(words, sizeof words, gone ? "forgot %s\n" : "%s is not forgotten\n", name);
    text(out, gone ? 200 : 500, words);
  } else {
    text(out, 405, "GET, PUT or DELETE\n");
  }
}

static int by_name(const void *a, const void *b) {
  const function_string_t *left = &((const function_tuple2_string_string_t *)a)->f0;
  const function_string_t *right = &((const function_tuple2_string_string_t *)b)->f0;
  int order = memcmp(left->ptr, right->ptr, left->len < right->len ? left->len : right->len);
  return order != 0 ? order : (left->len > right->len) - (left->len < right->len);
}

// All of `config` in eyot.toml.
static void settings(Out out) {
  function_list_tuple2_string_string_t all;
  config_error_t failed;
  if (!config_get_all(&all, &failed)) {
    text(out, 500, "there is no configuration\n");
    return;
  }
  qsort(all.ptr, all.len, sizeof *all.ptr, by_name);
  Answer answer = begin(out, 200);
  for (size_t i = 0; i < all.len; i++) {
    say(answer, all.ptr[i].f0.ptr, all.ptr[i].f0.len);
    say(answer, (const uint8_t *)" = ", 3);
    say(answer, all.ptr[i].f1.ptr, all.ptr[i].f1.len);
    say(answer, (const uint8_t *)"\n", 1);
  }
  end(answer);
}

void exports_incoming_handle(http_own_incoming_request_t request, Out out) {
  char path[256] = "/", words[300];
  function_string_t given;
  if (http_method_incoming_request_path_with_query(http_borrow_incoming_request(request), &given)) {
    snprintf(path, sizeof path, "%.*s", (int)given.len, (const char *)given.ptr);
  }
  size_t len = strcspn(path, "?");
  const char *query = path[len] == '?' ? path + len + 1 : "";
  path[len] = 0;

  if (strcmp(path, "/hello") == 0) {
    snprintf(words, sizeof words, "hello, %s\n", strncmp(query, "name=", 5) == 0 ? query + 5 : "world");
    text(out, 200, words);
  } else if (strcmp(path, "/stream") == 0) {
    count(out);
  } else if (strcmp(path, "/fetch") == 0 && strncmp(query, "url=", 4) == 0) {
    fetch(out, query + 4);
  } else if (strcmp(path, "/fetch") == 0) {
    text(out, 400, "say ?url=\n");
  } else if (strncmp(path, "/kv/", 4) == 0) {
    notes(out, request, path + 4);
  } else if (strcmp(path, "/config") == 0) {
    settings(out);
  } else {
    snprintf(words, sizeof words, "nothing at %s\n", path);
    text(out, 404, words);
  }
}
