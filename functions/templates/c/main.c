// Greets whoever `?name=` names.

#include <stdio.h>
#include <string.h>

#include "function.h"

static const char *const TYPE = "content-type", *const TEXT = "text/plain; charset=utf-8";

// Answers with a status and a text. What fails here fails because the client has left.
static void answer(http_own_response_outparam_t out, uint16_t status, const char *text) {
  http_own_fields_t fields = http_constructor_fields();
  http_field_name_t name = {(uint8_t *)TYPE, strlen(TYPE)};
  http_field_value_t value = {(uint8_t *)TEXT, strlen(TEXT)};
  http_header_error_t refused;
  http_method_fields_append(http_borrow_fields(fields), &name, &value, &refused);

  http_own_outgoing_response_t response = http_constructor_outgoing_response(fields);
  http_method_outgoing_response_set_status_code(http_borrow_outgoing_response(response), status);
  http_own_outgoing_body_t body;
  http_method_outgoing_response_body(http_borrow_outgoing_response(response), &body);
  http_result_own_outgoing_response_error_code_t head = {.is_err = false, .val.ok = response};
  http_static_response_outparam_set(out, &head);

  io_own_output_stream_t stream;
  http_method_outgoing_body_write(http_borrow_outgoing_body(body), &stream);
  function_list_u8_t bytes = {(uint8_t *)text, strlen(text)};
  io_stream_error_t closed;
  io_method_output_stream_blocking_write_and_flush(io_borrow_output_stream(stream), &bytes, &closed);
  io_output_stream_drop_own(stream);
  http_error_code_t failed;
  http_static_outgoing_body_finish(body, NULL, &failed);
}

void exports_incoming_handle(http_own_incoming_request_t request, http_own_response_outparam_t out) {
  char path[256] = "/", text[300];
  function_string_t given;
  if (http_method_incoming_request_path_with_query(http_borrow_incoming_request(request), &given)) {
    snprintf(path, sizeof path, "%.*s", (int)given.len, (const char *)given.ptr);
  }
  size_t end = strcspn(path, "?");
  const char *query = path[end] == '?' ? path + end + 1 : "";
  path[end] = 0;

  if (strcmp(path, "/") != 0) {
    snprintf(text, sizeof text, "nothing at %s\n", path);
    answer(out, 404, text);
    return;
  }
  bool named = strncmp(query, "name=", 5) == 0;
  snprintf(text, sizeof text, "hello, %.40s\n", named ? query + 5 : "world");
  answer(out, 200, text);
}
