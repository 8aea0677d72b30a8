print(os.getenv("GREETING") .. " from " .. _VERSION .. ", built and run by lap")
