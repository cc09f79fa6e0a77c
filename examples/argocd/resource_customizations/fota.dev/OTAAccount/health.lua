-- The health of an account, out of its conditions: Ready is Healthy, Stalled needs a person and is Degraded, and all else
-- passes by itself. Argo CD answers for objects that are being deleted (Progressing), before it asks this script.

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not asked the cloud about this account yet"}
end

local HEALTH = {Stalled = "Degraded", Ready = "Healthy", Reconciling = "Progressing"}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" and HEALTH[condition.type] ~= nil then
    return {status = HEALTH[condition.type], message = condition.reason .. ": " .. condition.message}
  end
end
return {status = "Progressing", message = "The operator has not said yet how the account is"}
