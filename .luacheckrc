-- Settings of luacheck for `make check`; scripts/check-lua runs it on each script as Redis receives it.
std = "lua51"
max_line_length = 120

-- The sandbox of Redis 7: its own libraries, and without the parts of Lua that scripts cannot use there.
read_globals = {
  "cjson", "cmsgpack", "bit", "struct", "KEYS", "ARGV",
  redis = {
    fields = {
      "call", "pcall", "error_reply", "status_reply", "sha1hex", "log", "setresp", "set_repl", "replicate_commands",
      "acl_check_cmd", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM",
      "REPL_ALL", "REPL_AOF", "REPL_REPLICA", "REPL_SLAVE", "REPL_NONE",
    },
  },
}
not_globals = { "coroutine", "debug", "dofile", "io", "loadfile", "module", "os", "package", "print", "require" }

-- The script of wrk runs in LuaJIT, and wrk calls the functions that it defines.
files["bench/http/wrk.lua"] = {
  std = "luajit",
  globals = { "init", "request", "done" },
  read_globals = { "wrk", "dofile", "io", "os" },
}
