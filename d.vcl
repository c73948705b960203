vcl 4.1;
backend all { .host = "127.0.0.1"; .port = "18081"; }
