-- The health of an account: Healthy when the cloud answers to its keys. Argo CD answers for accounts that are being deleted
-- (Progressing), before it asks this script.

-- What passes by itself, or comes with the same sync. Everything else needs a person.
local PASSES = {
  CloudBusy = true,
  CloudUnreachable = true,
  ReadingAccount = true,
  RoleUnavailable = true,
  SecretNotFound = true,
  SecretUnreadable = true,
}

local status = obj.status
if status ~= nil and status.observedGeneration == obj.metadata.generation then
  for _, condition in ipairs(status.conditions or {}) do
    if condition.type == "Ready" then
      local message = condition.reason .. ": " .. condition.message
      if condition.status == "True" then
        return {status = "Healthy", message = message}
      end
      return {status = PASSES[condition.reason] and "Progressing" or "Degraded", message = message}
    end
  end
end
return {status = "Progressing", message = "The operator has not asked the cloud about this account yet"}
