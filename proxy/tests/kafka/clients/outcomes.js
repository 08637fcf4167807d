// What kafkajs sees, one line an outcome: `outcomes.js BOOTSTRAP USER PASSWORD RUN`. See outcomes.py.
const { Kafka, logLevel, CompressionTypes } = require('kafkajs')
const [bootstrap, username, password, run] = process.argv.slice(2)
const kafka = new Kafka({
  clientId: 'outcomes-js',
  brokers: [bootstrap],
  sasl: { mechanism: 'plain', username, password },
  logLevel: logLevel.NOTHING,
  retry: { retries: 8, initialRetryTime: 100, maxRetryTime: 400 },
})
const name = (kind) => `${kind}-${run}`
const tell = (what, outcome) => console.log(`${what}: ${outcome}`.replaceAll(`-${run}`, ''))
const word = (error) => error.type || (error.cause && error.cause.type) || error.name
const bounded = (action) =>
  Promise.race([action(), new Promise((_, no) => setTimeout(() => no(new Error('too long')), 60000).unref())])
const attempt = async (what, action) => {
  const began = performance.now()
  try {
    tell(what, JSON.stringify((await bounded(action)) ?? 'ok'))
  } catch (error) {
    tell(what, word(error))
  }
  console.error(`${((performance.now() - began) / 1000).toFixed(2)} ${what}`)
}

const send = async (topics, options = {}) => {
  const producer = kafka.producer(options.producer)
  await producer.connect()
  try {
    const topicMessages = topics.map((topic) => ({ topic, messages: [{ value: 'from kafkajs' }] }))
    const answer = await producer.sendBatch({ topicMessages, acks: options.acks, compression: options.compression })
    return answer && answer.map(({ topicName, errorCode }) => [topicName, errorCode]).sort()
  } finally {
    await producer.disconnect()
  }
}

const consume = async (groupId, topic) => {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000 })
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    return await new Promise((yes, no) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => no(payload.error))
      consumer.run({ eachMessage: async ({ topic }) => yes(topic) }).catch(no)
    })
  } finally {
    await consumer.disconnect()
  }
}

const transaction = async (transactionalId, topic) => {
  const producer = kafka.producer({ transactionalId, maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  try {
    const transaction = await producer.transaction()
    await transaction.send({ topic, messages: [{ value: 'in a transaction' }] })
    await transaction.commit()
  } finally {
    await producer.disconnect()
  }
}

const main = async () => {
  await attempt('produce', () => send([name('open')]))
  await attempt('produce, gzip', () => send([name('open')], { compression: CompressionTypes.GZIP }))
  await attempt('produce, denied', () => send([name('ro')]))
  await attempt('produce, mixed', () => send([name('ro'), name('open'), name('wo')]))
  await attempt('produce, hidden', () => send([name('shut')]))
  await attempt('produce without acknowledgement', () => send([name('open')], { acks: 0 }))
  await attempt('consume', () => consume(name('good-js'), name('open')))
  await attempt('consume, denied', () => consume(name('good-js'), name('wo')))
  await attempt('consume, hidden', () => consume(name('good-js'), name('shut')))
  await attempt('consume, bad group', () => consume(name('bad-js'), name('open')))
  await attempt('transaction', () => transaction(name('good-js'), name('open')))
  await attempt('transaction, bad id', () => transaction(name('bad-js'), name('open')))
  const admin = kafka.admin()
  await admin.connect()
  const ours = (names) => names.filter((one) => one.endsWith(run)).map((one) => one.replace(`-${run}`, '')).sort()
  await attempt('list topics', async () => ours(await admin.listTopics()))
  await attempt('metadata, mixed', () => admin.fetchTopicMetadata({ topics: [name('open'), name('shut')] }))
  await attempt('offsets', async () => (await admin.fetchTopicOffsets(name('open'))).length)
  await attempt('offsets, hidden', () => admin.fetchTopicOffsets(name('shut')))
  await attempt('group offsets', async () =>
    (await admin.fetchOffsets({ groupId: name('good-js'), topics: [name('open')] })).length)
  await attempt('group offsets, bad', () => admin.fetchOffsets({ groupId: name('bad-js'), topics: [name('open')] }))
  await attempt('create', () => admin.createTopics({ topics: [{ topic: name('open-js') }] }))
  await attempt('create, denied', () => admin.createTopics({ topics: [{ topic: name('shut-js') }] }))
  await attempt('delete', () => admin.deleteTopics({ topics: [name('open-js')] }))
  await attempt('delete, denied', () => admin.deleteTopics({ topics: [name('shut')] }))
  await attempt('groups', async () => ours((await admin.listGroups()).groups.map((one) => one.groupId)))
  await attempt('acls', () => admin.describeAcls({
    resourceType: 1, resourceName: null, resourcePatternType: 1, principal: null, host: null, operation: 1, permissionType: 1,
  }))
  await attempt('cluster', async () => (await admin.describeCluster()).brokers.length)
  await admin.disconnect()
}
main().then(() => process.exit(0))
