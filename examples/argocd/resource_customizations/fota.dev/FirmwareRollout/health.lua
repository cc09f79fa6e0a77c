-- The health of a rollout, out of its conditions: Ready is Healthy, Stalled needs a person and is Degraded, and all else
-- goes on by itself. Argo CD answers for objects that are being deleted (Progressing), before it asks this script.

-- What a pause that somebody planned counts as: spec.suspend, or the annotation fota.dev/pause.
local PAUSED = "Suspended"

local status = obj.status
-- Right after a commit the status still speaks of the manifest before it, and may say Ready.
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not read this version of the manifest yet"}
end

local holds = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    holds[condition.type] = condition
  end
end

local function told(health, condition)
  return {status = health, message = condition.reason .. ": " .. condition.message}
end

if holds.Stalled ~= nil then
  return told("Degraded", holds.Stalled)
end
if holds.Ready ~= nil then
  return told("Healthy", holds.Ready)
end
if holds.Reconciling == nil then
  return {status = "Progressing", message = "The operator has not said yet where the rollout stands"}
end
if status.phase == "Paused" then
  return told(PAUSED, holds.Reconciling)
end
return told("Progressing", holds.Reconciling)
