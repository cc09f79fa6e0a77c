-- Starts and promotes nothing until resume; a job that runs goes on.
local os = require("os")
local COMMAND = "pause"

-- A value acts once, and this clock counts seconds: the second click within one takes another value.
local now = os.date("!%Y-%m-%dT%H:%M:%SZ")
local annotations = obj.metadata.annotations or {}
local handled = (obj.status or {}).handled or {}
local value, count = now, 1
while value == annotations["fota.dev/" .. COMMAND] or value == handled[COMMAND] do
  count = count + 1
  value = now .. "-" .. count
end

annotations["fota.dev/" .. COMMAND] = value
obj.metadata.annotations = annotations
return obj
