#include <stdio.h>
#include "lua.h"
#include "lauxlib.h"
#include "lualib.h"

int main(void) {
    lua_State *state = luaL_newstate();
    luaL_openlibs(state);
    if (luaL_dostring(state, "return 6 * 7")) return 1;
    printf("%d\n", (int)lua_tointeger(state, -1));
    lua_close(state);
    return 0;
}
